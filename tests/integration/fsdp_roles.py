"""Batches, and actors and critics that cut them in one way or another, for tests of updates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from verl.config.model import (
    ActorConfig,
    CriticConfig,
    LoraConfig,
    ModelConfig,
    OptimConfig,
    ReferenceConfig,
)
from verl.protocol import DataProto
from verl.single_controller.worker_group import RayClassWithInit
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus, collate
from verl.workers.fsdp.actor import ActorWorker, ReferenceWorker
from verl.workers.fsdp.critic import CriticWorker

VOCABULARY = 300
LEARNING_RATE = 1e-3
# Five rows do not split evenly over two ranks.
LORA = LoraConfig(rank=5, alpha=10)


def trajectories(count: int) -> list[Trajectory]:
    """Prompt, action, observation, action; of uneven lengths."""
    generator = torch.Generator().manual_seed(3)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, VOCABULARY, (length,), generator=generator).tolist())

    made = []
    for i in range(count):
        first, second = ids(4 + i % 5), ids(3 + i % 7)
        segments = [
            Segment(SegmentKind.PROMPT, ids(6 + 3 * (i % 4))),
            Segment(SegmentKind.ACTION, first, (-1.0,) * len(first)),
            Segment(SegmentKind.OBSERVATION, ids(5)),
            Segment(SegmentKind.ACTION, second, (-1.0,) * len(second)),
        ]
        status = TrajectoryStatus.ANSWERED
        made.append(Trajectory(str(i), segments, status))
    return made


def batch_of(count: int) -> DataProto:
    batch = collate(trajectories(count), pad_token_id=0)
    assert batch.batch is not None
    generator = torch.Generator().manual_seed(4)
    mask = batch.batch["response_mask"]
    for name in ("advantages", "old_log_probs", "ref_log_prob", "values", "returns"):
        noise = torch.randn(mask.shape, generator=generator)
        batch.batch[name] = noise - 5.7 if "log_prob" in name else noise
    batch.batch["rollout_weights"] = torch.rand(mask.shape, generator=generator)
    return batch


def model_config(folder: Path, packed: bool) -> ModelConfig:
    return ModelConfig(
        path=str(folder),
        dtype="float32",
        use_remove_padding=packed,
        enable_gradient_checkpointing=packed,
    )


def roles(
    name: str,
    folder: Path,
    packed: bool,
    dynamic: bool,
    size: int,
    learning_rate: float = LEARNING_RATE,
) -> dict[str, RayClassWithInit]:
    """Roles ``<name>/actor`` and so on, which cut a batch in one way."""
    model = model_config(folder, packed)
    cut: dict[str, Any] = {
        "use_dynamic_bsz": dynamic,
        "ppo_micro_batch_size": size,
        "ppo_max_token_len_per_gpu": 60,
        "optim": OptimConfig(lr=learning_rate, weight_decay=0.0, grad_clip=1e9),
    }
    actor = ActorConfig(use_kl_loss=True, kl_loss_coef=0.1, entropy_coeff=0.01, **cut)
    by_trajectory = replace(actor, policy_loss="gspo", loss_agg_mode="seq-mean-token-mean")
    critic = CriticConfig(model=model, **cut)
    return {
        f"{name}/actor": RayClassWithInit(ActorWorker, model, actor, 1.0, 10),
        f"{name}/by_trajectory": RayClassWithInit(ActorWorker, model, by_trajectory, 1.0, 10),
        f"{name}/adapted": RayClassWithInit(ActorWorker, replace(model, lora=LORA), actor, 1.0, 10),
        f"{name}/critic": RayClassWithInit(CriticWorker, critic, 10),
        f"{name}/reference": RayClassWithInit(
            ReferenceWorker, model, actor, ReferenceConfig(), 1.0
        ),
    }
