"""The whole stack by the user's own command: Ray, FSDP2 on two ranks, vLLM, HTTP pool."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from router_r1.llm_agent.trajectory import RoutedTrajectory
from tests.integration.commands import ROOT, SMALL, Command, metrics_of, start
from verl.errors import UserError
from verl.trainer.environment import describe_code
from verl.trainer.interruption import EXIT_INTERRUPTED
from verl.trainer.launch import run_as_command
from verl.trainer.main_ppo import main as train
from verl.trainer.ppo.rollout_log import read_trajectories
from verl.utils.checkpoints import list_checkpoints

pytestmark = pytest.mark.engine
PLANTED = ("sk-planted-on-the-command-line", "sk-planted-in-the-environment")
METRICS = (
    *(
        f"critic/{name}/{statistic}"
        for name in ("score", "rewards", "advantages", "returns", "values", "cost", "metric")
        for statistic in ("mean", "max", "min")
    ),
    *("critic/kl", "critic/kl_coeff", "critic/vf_loss", "critic/vf_clipfrac"),
    *("critic/vf_explained_var", "actor/entropy_loss", "actor/pg_loss", "actor/pg_clipfrac"),
    *("actor/ppo_kl", "actor/grad_norm", "actor/lr", "response_length/mean", "prompt_length/mean"),
    *("env/number_of_actions/mean", "env/finish_ratio", "env/number_of_valid_action"),
    *("env/ratio_of_valid_action", "env/number_of_valid_route", "state_tokens/total"),
    *("state_tokens/coverage", "global_seqlen/mean", "timing_s/step", "timing_s/gen"),
    *("timing_per_token_ms/gen", "timing_per_token_ms/update"),
)


def test_it_ends_well_and_leaves_no_process(small_run: tuple[Command, Path]) -> None:
    command, _ = small_run
    assert command.process.returncode == 0, command.output
    assert command.survivors() == []
    assert "Traceback" not in command.output
    assert "recipe quickstart" in command.output
    for words in ("step 1/3", "step 3/3", "trained router", "oracle", "best single LLM"):
        assert words in command.output


def test_it_writes_all_that_a_run_leaves(small_run: tuple[Command, Path]) -> None:
    _, folder = small_run
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["total_training_steps"] == 3
    summary = json.loads((folder / "summary.json").read_text())
    for row in ("untrained", "random", "best_single", "trained", "oracle"):
        assert set(summary[row]) == {"em", "f1", "cost", "calls"}
        assert all(math.isfinite(value) for value in summary[row].values())
    assert sum(account["answered"] for account in summary["spending"].values()) > 50
    assert summary["oracle"]["em"] > summary["best_single"]["em"]
    assert set(summary["seconds"]) == {"setup", "cold_start", "train", "total"}
    assert list(folder.glob("tensorboard/*"))
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["code"]["git_commit"] == describe_code(ROOT)["git_commit"]
    assert environment["packages"]["torch"]
    assert len(list((folder / "validation").glob("step_*.jsonl"))) == 2
    rows = (folder / "validation" / "step_0.jsonl").read_text().splitlines()
    assert len(rows) == 24


def test_it_says_before_and_while_it_trains_what_it_costs(small_run: tuple[Command, Path]) -> None:
    command, folder = small_run
    before, training = command.output.split("starting 2 cpu ranks")
    assert re.search(r"calls of this run: about [\d,]+, at most", before)
    assert re.search(r"dollars of this run: none are paid; simulated: about \$0\.\d+", before)
    assert len(re.findall(r"step \d/3 .* simulated \$[\d.]+ of about \$[\d.]+", training)) == 3
    lines = metrics_of(folder)
    spent, at_end = "pool/spent_usd", "pool/spent_usd_at_end"
    assert lines[-1][at_end] == pytest.approx(lines[-1][spent]), "nothing more was to come"
    assert all(line[at_end] > line[spent] for line in lines[:-1])


def test_it_keeps_samples_and_names_what_to_try_next(small_run: tuple[Command, Path]) -> None:
    command, folder = small_run
    for step in (1, 2, 3):
        records = read_trajectories(folder / "samples" / f"step_{step}.jsonl", RoutedTrajectory)
        assert len({record.prompt for record in records}) == 4
        assert all(record.trajectory.response_text for record in records)
        assert {"reward", "em", "cost"} <= records[0].scores.keys()
    assert f"router-r1 report {folder}" in command.output
    assert "router-r1 ask --question" in command.output


def test_metrics_keep_their_names(small_run: tuple[Command, Path]) -> None:
    _, folder = small_run
    lines = metrics_of(folder)
    steps = [line for line in lines if "critic/score/mean" in line]
    assert [line["step"] for line in steps] == [1, 2, 3]
    actors = {name for name in METRICS if name.startswith("actor/")}
    for line in steps:
        missing = {name for name in METRICS if name not in line}
        assert missing == (actors if line["step"] == 1 else set()), "the critic's warm-up"
        assert line["env/ratio_of_valid_action"] > 0.5, "the cold start knows the format"
    validation = next(line for line in lines if "val/test_score/EM/all" in line)
    for name in ("EM", "F1", "cost", "reward", "route_cnt"):
        assert f"val/test_score/{name}/world_onehop" in validation
        assert f"val/test_score/{name}/world_twohop" in validation


def test_the_engine_has_the_trainers_weights_at_every_step(
    small_run: tuple[Command, Path],
) -> None:
    _, folder = small_run
    lines = metrics_of(folder)
    gaps = [line["rollout/log_prob_gap"] for line in lines if "rollout/log_prob_gap" in line]
    assert len(gaps) == 3
    assert max(gaps) < 1e-4


def test_checkpoints_are_hugging_faces(small_run: tuple[Command, Path], cold_policy: Path) -> None:
    _, folder = small_run
    step = folder / "checkpoints" / "global_step_3"
    AutoModelForCausalLM.from_pretrained(step / "actor")
    assert AutoTokenizer.from_pretrained(step / "actor").chat_template
    critic = AutoModelForTokenClassification.from_pretrained(step / "critic")
    assert critic.config.num_labels == 1
    before = load_file(cold_policy / "model.safetensors")
    after = load_file(step / "actor" / "model.safetensors")
    assert any(not before[name].equal(after[name]) for name in after)


def test_no_key_reaches_what_a_run_writes(small_run: tuple[Command, Path]) -> None:
    command, folder = small_run
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    for key in PLANTED:
        assert key not in command.output
        for path in files:
            assert key.encode() not in path.read_bytes(), path


def test_spending_adds_up_from_the_calls_to_the_summary(
    small_run: tuple[Command, Path],
) -> None:
    """Books balance to the cent: recorded calls, metrics and the last table agree."""
    _, folder = small_run
    summary = json.loads((folder / "summary.json").read_text())
    spent = sum(account["spent_usd"] for account in summary["spending"].values())
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["pool/spent_usd"] == pytest.approx(spent)
    validation = [
        json.loads(line)
        for path in sorted((folder / "validation").glob("step_*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    lines = metrics_of(folder)
    trained = sum(16 * line["reward/dollars"] for line in lines if "reward/dollars" in line)
    assert spent == pytest.approx(trained + sum(row["dollars"] for row in validation))
    outcomes = sum(
        value for line in lines for name, value in line.items() if name.startswith("pool/outcome/")
    )
    assert outcomes >= sum(account["calls"] for account in summary["spending"].values())


@pytest.mark.usefixtures("cold_policy")
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


@pytest.mark.usefixtures("cold_policy")
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


@pytest.mark.usefixtures("cold_policy")
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


def without_chat_template(cold_policy: Path, target: Path) -> Path:
    shutil.copytree(cold_policy, target)
    (target / "chat_template.jinja").unlink(missing_ok=True)
    path = target / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("chat_template", None)
    path.write_text(json.dumps(config))
    return target


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.train_files=[gone.parquet]"], ["no such data file: gone.parquet"]),
        (["data.train_batch_size=100"], ["100", "not divisible", "ppo_mini_batch_size = 64"]),
        (["data.train_data_num=64"], ["64 training rows are fewer"]),
        (["api_base=http://127.0.0.1:9/v1"], ["http://127.0.0.1:9/v1", "does not answer"]),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    tmp_path: Path, overrides: list[str], words: list[str]
) -> None:
    folders = (f"trainer.default_local_dir={tmp_path}/run", f"world.folder={tmp_path}/world")
    with pytest.raises(UserError) as refused:
        train(["recipe=quickstart", *overrides, *folders])
    for word in words:
        assert word in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_model_without_chat_template_is_refused(cold_policy: Path, tmp_path: Path) -> None:
    bare = without_chat_template(cold_policy, tmp_path / "bare")
    command = start(
        *(sys.executable, "-m", "verl.trainer.main_ppo", "recipe=quickstart"),
        *("cold_start=null", f"actor_rollout_ref.model.path={bare}"),
        *(f"trainer.default_local_dir={tmp_path}", f"world.folder={tmp_path}/world"),
    )
    assert command.finish() == 2, command.output
    assert "no chat template" in command.output
    assert command.survivors() == []


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trainer.total_step=3"], ["trainer.total_step", "total_training_"]),
        (
            ["cold_start=null", "actor_rollout_ref.model.path=no/such/model"],
            ["model 'no/such/model' is neither"],
        ),
    ],
)
def test_the_command_says_in_words_what_is_wrong(
    tmp_path: Path, overrides: list[str], words: list[str]
) -> None:
    command = start(
        *(sys.executable, "-m", "verl.trainer.main_ppo", "recipe=quickstart", *overrides),
        *(f"trainer.default_local_dir={tmp_path}", f"world.folder={tmp_path}/world"),
        HF_HUB_OFFLINE="1",
    )
    assert command.finish() == 2, command.output
    assert "Traceback" not in command.output
    for word in words:
        assert word in command.output.replace("\n", " ")
    assert command.survivors() == []


def test_an_unknown_recipe_is_named_among_those_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["main_ppo", "recipe=nowhere"])
    with pytest.raises(SystemExit) as ended:
        run_as_command(train)
    assert ended.value.code == 2
    said = capsys.readouterr()
    for word in ("nowhere", "quickstart"):
        assert word in said.out + said.err
