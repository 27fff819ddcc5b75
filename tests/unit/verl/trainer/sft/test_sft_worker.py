"""Supervised fine-tuning goes through the policy's own scoring, packed as padded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM

from verl.config.model import ModelConfig, OptimConfig
from verl.config.sft import ComponentConfig, SFTConfig, SFTTrainerConfig
from verl.single_controller.worker import RankInfo
from verl.trainer.sft.worker import SFTWorker

EXAMPLES = [
    {"input_ids": [5, 6, 7, 8, 9, 10], "loss_mask": [0, 0, 1, 1, 0, 1]},
    {"input_ids": [11, 12, 13], "loss_mask": [1, 1, 1]},
]


class Examples:
    """The same two examples at every step."""

    def sample_batch(self, _step: int, _batch_size: int) -> list[dict[str, list[int]]]:
        return EXAMPLES


@pytest.fixture
def single_rank() -> Iterator[RankInfo]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield RankInfo(0, 1, 0, "cpu", "localhost", 0)
    dist.destroy_process_group()


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
    data = ComponentConfig(target=f"{Examples.__module__}.{Examples.__name__}")
    trainer = SFTTrainerConfig(output_dir=str(tmp_path), steps=2, batch_size=2)
    config = SFTConfig(model=model, optim=OptimConfig(lr=1e-3), data=data, trainer=trainer)
    worker = SFTWorker(single_rank, config)
    first, second = worker.train_steps(0, 2)
    assert first == pytest.approx(mean_loss(policy_folder), rel=1e-5)
    assert second < first
    worker.save(str(tmp_path / "tuned"))
    assert mean_loss(tmp_path / "tuned") < second
