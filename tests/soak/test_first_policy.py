"""A cold start from one's own chats, then RL from it: two commands."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoModelForCausalLM

from tests.integration.commands import SMALL, metrics_of, start
from tests.soak.runs import finish

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]
CHATS, SFT_STEPS, RL_STEPS = 48, 20, 2


def write_chats(file: Path) -> None:
    """Each answers at once."""
    chats = [
        [
            {"role": "user", "content": f"Question {number}?"},
            {
                "role": "assistant",
                "content": f"<think> one knows </think><answer> {number} </answer>",
            },
        ]
        for number in range(CHATS)
    ]
    pd.DataFrame({"messages": chats}).to_parquet(file)


def test_a_policy_of_ones_own_chats_is_trained_further(policy_folder: Path, tmp_path: Path) -> None:
    write_chats(tmp_path / "chats.parquet")
    tuned = tmp_path / "first_policy"
    tuning = start(
        *(sys.executable, "-m", "verl.trainer.main_sft", f"model.path={policy_folder}"),
        *("model.dtype=float32", "model.enable_gradient_checkpointing=false", "optim.lr=3e-3"),
        *(f"data.train_files=[{tmp_path}/chats.parquet]", "trainer.n_gpus_per_node=2"),
        *(f"data.val_files=[{tmp_path}/chats.parquet]", "trainer.test_freq=10"),
        *(f"trainer.steps={SFT_STEPS}", "trainer.batch_size=16", "trainer.device=cpu"),
        *(f"trainer.output_dir={tuned}", "trainer.save_freq=10"),
    )
    finish(tuning)
    lines = metrics_of(tmp_path / "first_policy_run")
    assert [line["step"] for line in lines] == list(range(1, SFT_STEPS + 1))
    validated = {line["step"]: line["val/loss"] for line in lines if "val/loss" in line}
    assert list(validated) == [10, 20]
    assert validated[20] < validated[10] < lines[0]["train/loss"]
    AutoModelForCausalLM.from_pretrained(tuned)

    run = tmp_path / "run"
    training = start(
        *("bash", "train.sh", *SMALL, f"trainer.default_local_dir={run}", "cold_start=null"),
        *(f"actor_rollout_ref.model.path={tuned}", f"world.folder={tmp_path}/world"),
        *(f"trainer.total_training_steps={RL_STEPS}", "trainer.logger=[console,jsonl]"),
        RECIPE="quickstart",
    )
    finish(training)
    steps = [line for line in metrics_of(run) if "critic/score/mean" in line]
    assert [line["step"] for line in steps] == [1, 2]
    assert steps[0]["env/finish_ratio"] > 0.2, "what was learned from the chats is gone"
