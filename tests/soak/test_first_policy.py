"""A cold start from one's own chats, then RL from it: two commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
from transformers import AutoModelForCausalLM

from tests.integration.commands import SMALL, start
from tests.soak.runs import finish, metrics_of

CHATS, SFT_STEPS, RL_STEPS = 48, 20, 2


def write_chats(file: Path) -> None:
    """Each with a call and an answer."""
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
    losses = [
        json.loads(line)["train/loss"]
        for line in (tmp_path / "first_policy_run/metrics.jsonl").read_text().splitlines()
    ]
    assert len(losses) == SFT_STEPS
    assert losses[-1] < losses[0] / 3
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
    assert steps[0]["env/finish_ratio"] > 0.5, "it answers as the chats do"
