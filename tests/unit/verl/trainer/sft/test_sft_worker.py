"""Supervised fine-tuning goes through the policy's own scoring, packed as padded."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from verl.config.model import ModelConfig, OptimConfig
from verl.config.sft import SFTConfig, SFTDataConfig, SFTTrainerConfig
from verl.errors import UserError
from verl.single_controller.worker import RankInfo
from verl.trainer.interruption import StopRequestedError
from verl.trainer.main_sft import run_folder, train
from verl.trainer.nonfinite import NonFiniteUpdatesError
from verl.trainer.sft.checkpoints import find_start
from verl.trainer.sft.worker import SFTWorker

EXAMPLES = [
    {"input_ids": [5, 6, 7, 8, 9, 10], "loss_mask": [0, 0, 1, 1, 0, 1]},
    {"input_ids": [11, 12, 13], "loss_mask": [1, 1, 1]},
]


class Examples:
    """The same two examples at every step."""

    def sample_batch(self, _step: int, _batch_size: int) -> list[dict[str, list[int]]]:
        return EXAMPLES


def mean_loss(folder: Path) -> float:
    """By transformers' logits: the first token has no prediction, whatever its mask."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    losses = []
    for example in EXAMPLES:
        with torch.no_grad():
            log_probs = model(torch.tensor([example["input_ids"]])).logits[0].log_softmax(-1)
        for i in range(1, len(example["input_ids"])):
            if example["loss_mask"][i]:
                losses.append(-float(log_probs[i - 1, example["input_ids"][i]]))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("packed", [True, False])
def test_the_loss_is_of_the_marked_tokens(
    policy_folder: Path, tmp_path: Path, single_rank: RankInfo, packed: bool
) -> None:
    model = ModelConfig(path=str(policy_folder), dtype="float32", use_remove_padding=packed)
    data = SFTDataConfig(target=f"{Examples.__module__}.{Examples.__name__}")
    trainer = SFTTrainerConfig(output_dir=str(tmp_path), steps=2, batch_size=2)
    config = SFTConfig(model=model, optim=OptimConfig(lr=1e-3), data=data, trainer=trainer)
    worker = SFTWorker(single_rank, config)
    first, second = (step["train/loss"] for step in worker.train_steps(0, 2))
    assert first == pytest.approx(mean_loss(policy_folder), rel=1e-5)
    assert second < first
    worker.save_checkpoint(str(tmp_path / "tuned"))
    assert mean_loss(tmp_path / "tuned") < second


class OneRank:
    """Calls a worker as a group of one rank does: results come as a list by rank."""

    def __init__(self, worker: SFTWorker) -> None:
        self.worker = worker

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        return lambda *args: [getattr(self.worker, name)(*args)]


def chat_run(policy_folder: Path, folder: Path) -> SFTConfig:
    """Of two steps on four chats, each with a validation and a checkpoint."""
    chats = [
        [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i} " * (i + 1)}]
        for i in range(4)
    ]
    file = str(folder / "chats.parquet")
    pd.DataFrame({"messages": chats}).to_parquet(file)
    trainer = SFTTrainerConfig(
        output_dir=str(folder / "model"),
        run_dir=str(folder / "run"),
        steps=2,
        batch_size=3,
        test_freq=1,
        save_freq=1,
        max_ckpt_to_keep=None,
    )
    return SFTConfig(
        model=ModelConfig(
            path=str(policy_folder), dtype="float32", enable_gradient_checkpointing=False
        ),
        optim=OptimConfig(lr=1e-3, warmup_style="linear", min_lr_ratio=0.5),
        data=SFTDataConfig(train_files=[file], val_files=[file]),
        trainer=trainer,
    )


def trained(config: SFTConfig, rank: RankInfo) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """Weights at the end, and the lines of the metrics file."""
    worker = SFTWorker(rank, config)
    with run_folder(config) as (tracking, start):
        train(config, OneRank(worker), tracking, start)
    weights = {name: value.clone() for name, value in worker._engine.full_parameters()}
    text = (Path(str(config.trainer.run_dir)) / "metrics.jsonl").read_text(encoding="utf-8")
    return weights, [json.loads(line) for line in text.splitlines()]


def test_a_run_that_goes_on_is_the_run_that_was_not_interrupted(
    policy_folder: Path, tmp_path: Path, single_rank: RankInfo
) -> None:
    config = chat_run(policy_folder, tmp_path)
    straight, lines = trained(config, single_rank)
    assert [line["step"] for line in lines] == [1, 2]
    losses = [line["val/loss"] for line in lines if "val/loss" in line]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    checkpoints = Path(str(config.trainer.run_dir)) / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["global_step_1", "global_step_2"]
    shutil.rmtree(checkpoints / "global_step_2")
    resumed, again = trained(config, single_rank)
    assert again == lines
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    with pytest.raises(UserError, match=r"trainer.seed was 42, is 7"):
        find_start(replace(config, trainer=replace(config.trainer, seed=7)))


def test_a_signal_ends_a_run_with_what_it_did_saved(
    policy_folder: Path, tmp_path: Path, single_rank: RankInfo
) -> None:
    """SIGTERM while its second of four steps is taken; the same command then goes on."""
    config = chat_run(policy_folder, tmp_path)
    config.trainer = replace(config.trainer, steps=4, test_freq=-1, save_freq=-1, gate_freq=1)
    straight, lines = trained(config, single_rank)
    shutil.rmtree(str(config.trainer.run_dir))

    class Told(OneRank):
        def train_steps(self, first: int, count: int) -> list[Any]:
            losses = self.worker.train_steps(first, count)
            if first + count == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return [losses]

    with (
        pytest.raises(StopRequestedError, match="SIGTERM"),
        run_folder(config) as (tracking, start),
    ):
        train(config, Told(SFTWorker(single_rank, config)), tracking, start)
    assert find_start(config).step == 2
    resumed, again = trained(config, single_rank)
    assert again == lines
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_how_a_batch_is_cut_does_not_change_the_loss(
    policy_folder: Path, tmp_path: Path, single_rank: RankInfo
) -> None:
    config = chat_run(policy_folder, tmp_path)
    whole = SFTWorker(single_rank, config).validation_loss()
    config.trainer.max_token_len_per_gpu = 40
    assert SFTWorker(single_rank, config).validation_loss() == pytest.approx(whole, rel=1e-5)


def test_updates_that_are_not_finite_are_left_out_and_end_the_run(
    policy_folder: Path, tmp_path: Path, single_rank: RankInfo
) -> None:
    config = chat_run(policy_folder, tmp_path)
    config.trainer = replace(
        config.trainer, steps=5, save_freq=-1, test_freq=-1, max_nonfinite_steps=3
    )
    worker = SFTWorker(single_rank, config)
    poisoned = next(iter(worker._engine.model.parameters()))
    with torch.no_grad():
        poisoned.fill_(float("inf"))
    before = {name: value.clone() for name, value in worker._engine.full_parameters()}
    with (
        pytest.raises(NonFiniteUpdatesError, match="3 training steps in a row"),
        run_folder(config) as (tracking, start),
    ):
        train(config, OneRank(worker), tracking, start)
    after = dict(worker._engine.full_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)
    text = (Path(str(config.trainer.run_dir)) / "metrics.jsonl").read_text(encoding="utf-8")
    counts = [json.loads(line)["train/nonfinite_steps"] for line in text.splitlines()]
    assert len(counts) >= 3
    assert set(counts) == {1.0}
