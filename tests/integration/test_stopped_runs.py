"""Runs that end before their last step: the budget is used up, the pool is gone, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests.integration.commands import SMALL, metrics_of, start
from verl.trainer.interruption import EXIT_INTERRUPTED
from verl.utils.checkpoints import list_checkpoints

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("cold_start_folder")]


def test_a_used_up_budget_ends_the_run_at_a_clean_checkpoint(tmp_path: Path) -> None:
    command = start(
        *("bash", "train.sh", *SMALL, f"trainer.default_local_dir={tmp_path}"),
        *(f"world.folder={tmp_path}/world", "trainer.total_training_steps=50"),
        *("trainer.val_before_train=false", "trainer.n_gpus_per_node=1"),
        *("pool.budget_usd=0.002", "trainer.save_hf=last"),
        RECIPE="quickstart",
    )
    assert command.finish() == 0, command.output
    stopped = re.search(r"stopped after (\d+) steps: pool.budget_usd=0.002", command.output)
    assert stopped, command.output
    steps = int(stopped.group(1))
    assert 1 <= steps < 50
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [f"global_step_{steps}"]
    AutoModelForCausalLM.from_pretrained(tmp_path / f"checkpoints/global_step_{steps}/actor")
    lines = metrics_of(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, steps + 1)), "no half-paid step"
    assert lines[-1]["pool/outcome/budget"] == 0
    spending = json.loads((tmp_path / "summary.json").read_text())["spending"]
    assert 0.001 < sum(account["spent_usd"] for account in spending.values()) <= 0.002
    assert "limit $0.002" in command.output


def test_a_run_that_cannot_reach_its_llms_stops_at_a_clean_checkpoint(tmp_path: Path) -> None:
    """The pool's process is killed after the first step."""
    command = start(
        *("bash", "train.sh", *SMALL, f"trainer.default_local_dir={tmp_path}"),
        *(f"world.folder={tmp_path}/world", "trainer.total_training_steps=50"),
        *("trainer.val_before_train=false", "trainer.n_gpus_per_node=1"),
        "pool.health.failed_rollouts=2",
        RECIPE="quickstart",
    )
    pid = int(command.wait_for(r"simulated pool \(pid (\d+)\)").group(1))
    command.wait_for(r"step +1/50")
    os.kill(pid, 9)
    assert command.finish() == 0, command.output
    stopped = re.search(
        r"stopped after (\d+) steps: 100% of the calls failed in the last of 2 such rollouts in a "
        r"row, since \d\d:\d\d:\d\d: \w+ \d+ of \d+ \((connection_error|unavailable)\)",
        " ".join(command.output.split()),
    )
    assert stopped, command.output
    steps = int(stopped.group(1))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [f"global_step_{steps}"]
    AutoModelForCausalLM.from_pretrained(tmp_path / f"checkpoints/global_step_{steps}/actor")
    lines = metrics_of(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    assert lines[0]["reward/route_cnt"] > 0
    assert lines[0]["rollout/excluded"] == 0
    last = lines[-1]
    assert last["rollout/excluded"] > 0
    if last["rollout/excluded"] == 16:
        assert "critic/score/mean" not in last, "nothing was learned from failures"
        assert re.search(rf"step +{steps}/50 +no update: 16 trajectories", command.output)
    assert command.survivors() == []


def assert_can_go_on(folder: Path) -> None:
    """The last step that it has told of is saved, and nothing half written is there."""
    (checkpoint,) = (folder / "checkpoints").iterdir()
    lines = metrics_of(folder)
    assert checkpoint.name == f"global_step_{lines[-1]['step']}"
    found = list_checkpoints(folder)
    assert [c.resumable for c in found] == [True]
    assert found[0].read_run_state()["step"] == lines[-1]["step"]


def test_grpo_trains_without_a_critic_beside_rollouts_and_ctrl_c_stops_everything(
    tmp_path: Path,
) -> None:
    command = start(
        *("bash", "train.sh", *SMALL, f"trainer.default_local_dir={tmp_path}"),
        *(f"world.folder={tmp_path}/world", "data.train_batch_size=4", "trainer.async_level=1"),
        "algorithm.rollout_correction.level=token",
        "actor_rollout_ref.rollout.free_cache_engine=false",
        "trainer.profiler={steps: [2], ranks: [1]}",
        RECIPE="quickstart_grpo",
    )
    command.wait_for(r"step +2/40")
    command.interrupt(group=True)
    assert command.finish() == EXIT_INTERRUPTED, command.output
    assert command.survivors() == []
    assert "interrupted by SIGINT" in command.output
    assert "Traceback" not in command.output
    assert_can_go_on(tmp_path)
    lines = metrics_of(tmp_path)
    steps = [line for line in lines if "critic/score/mean" in line]
    assert all(line["actor/kl_loss"] >= 0 and "critic/vf_loss" not in line for line in steps)
    assert steps[-1]["critic/advantages/max"] > 0 > steps[-1]["critic/advantages/min"]
    late = [line["rollout/steps_late/mean"] for line in steps]
    assert late[0] == 0 < late[1] <= 2, "the second step learns from what was begun in the first"
    assert all(line["rollout/prompts_under_way"] == 4 for line in steps)
    (checkpoint,) = list_checkpoints(tmp_path)
    assert len(checkpoint.read_run_state()["parts"]["rows"]["returned"]) == 4
    assert [trace.name for trace in (tmp_path / "profile").iterdir()] == ["step_2_rank_1.json.gz"]
