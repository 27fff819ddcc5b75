"""Batches, and actors and critics that cut them in one way or another, for tests of updates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from verl.config.model import (
    ActorConfig,
    CriticConfig,
    LoraConfig,
    ModelConfig,
    OptimConfig,
    ReferenceConfig,
)
from verl.protocol import DataProto
from verl.single_controller.dispatch import Dispatch, register
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


@dataclass(frozen=True)
class Cut:
    """How a rank computes a mini-batch.

    Attributes:
        size: trajectories of a micro-batch; None for as many as hold 60 tokens.
    """

    size: int | None
    packed: bool = False
    checkpointing: bool = False

    def model_config(self, folder: Path) -> ModelConfig:
        return ModelConfig(
            path=str(folder),
            dtype="float32",
            use_remove_padding=self.packed,
            enable_gradient_checkpointing=self.checkpointing,
        )

    def update_settings(self, learning_rate: float) -> dict[str, Any]:
        """What actor and critic have in common."""
        return {
            "use_dynamic_bsz": self.size is None,
            "ppo_micro_batch_size": self.size or 1,
            "ppo_max_token_len_per_gpu": 60,
            "optim": OptimConfig(lr=learning_rate, weight_decay=0.0, grad_clip=1e9),
        }


class GradientActor(ActorWorker):
    """Gives the gradient of its first update, or with beta1 = 0 of its last: Adam's first moment
    over 1 - beta1."""

    @register(Dispatch.ONE_TO_ALL)
    def gradients(self) -> dict[str, torch.Tensor]:
        """By parameter, whole."""
        optimizer = self._engine.optimizer
        assert optimizer is not None
        beta, _ = optimizer.param_groups[0]["betas"]
        found = {}
        for name, parameter in self._engine.model.named_parameters():
            moment = optimizer.state[parameter]["exp_avg"]
            whole = moment.full_tensor() if isinstance(moment, DTensor) else moment
            found[name] = whole / (1 - beta)
        return found


def actor_config(cut: Cut, learning_rate: float = LEARNING_RATE) -> ActorConfig:
    """With a KL and an entropy in the loss."""
    update = cut.update_settings(learning_rate)
    return ActorConfig(use_kl_loss=True, kl_loss_coef=0.1, entropy_coeff=0.01, **update)


def gradient_roles(folder: Path, cuts: dict[str, Cut]) -> dict[str, RayClassWithInit]:
    """One for each cut, of its name."""
    return {
        name: RayClassWithInit(GradientActor, cut.model_config(folder), actor_config(cut), 1.0, 10)
        for name, cut in cuts.items()
    }


def roles(
    name: str, folder: Path, cut: Cut, learning_rate: float = LEARNING_RATE
) -> dict[str, RayClassWithInit]:
    """Roles ``<name>/actor`` and so on, which cut a batch in one way."""
    model, actor = cut.model_config(folder), actor_config(cut, learning_rate)
    by_trajectory = replace(actor, policy_loss="gspo", loss_agg_mode="seq-mean-token-mean")
    critic = CriticConfig(model=model, **cut.update_settings(learning_rate))
    return {
        f"{name}/actor": RayClassWithInit(ActorWorker, model, actor, 1.0, 10),
        f"{name}/by_trajectory": RayClassWithInit(ActorWorker, model, by_trajectory, 1.0, 10),
        f"{name}/adapted": RayClassWithInit(ActorWorker, replace(model, lora=LORA), actor, 1.0, 10),
        f"{name}/critic": RayClassWithInit(CriticWorker, critic, 10),
        f"{name}/reference": RayClassWithInit(
            ReferenceWorker, model, actor, ReferenceConfig(), 1.0
        ),
    }
