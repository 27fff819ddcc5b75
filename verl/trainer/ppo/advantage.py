"""From scores to token rewards to advantages."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from verl.algorithms import find_algorithm
from verl.algorithms.base import ScoredBatch
from verl.algorithms.kl import AdaptiveKLController, FixedKLController, kl_penalty
from verl.algorithms.maths import masked_mean
from verl.algorithms.rollout_correction import correction_weights
from verl.config.algorithm import AlgorithmConfig
from verl.interfaces import RewardOutput
from verl.protocol import DataProto
from verl.trajectory import Trajectory

KLController = FixedKLController | AdaptiveKLController


def make_kl_controller(config: AlgorithmConfig) -> KLController:
    """The controller that ``algorithm.kl_ctrl`` names."""
    control = config.kl_ctrl
    if control.type == "adaptive":
        return AdaptiveKLController(control.kl_coef, control.target_kl, control.horizon)
    return FixedKLController(control.kl_coef)


def add_rewards(batch: DataProto, trajectories: Sequence[Trajectory], reward: RewardOutput) -> None:
    """``token_level_scores`` of a batch's trajectories: step rewards at their turns, the rest of a
    score at the end."""
    width = batch.tensors["response_mask"].shape[1]
    at_turns = None if reward.steps is None else place_steps(trajectories, reward.steps, width)
    add_token_level_scores(batch, torch.from_numpy(reward.scores), at_turns)


def add_token_level_scores(
    batch: DataProto, scores: torch.Tensor, at_turns: torch.Tensor | None = None
) -> None:
    """``token_level_scores`` (B, R) float32: each trajectory's score, of ``scores`` (B,), on its
    last sampled token, less what ``at_turns`` (B, R, see :func:`place_steps`) puts elsewhere."""
    mask = batch.tensors["response_mask"]
    positions = torch.arange(mask.shape[1])
    last = torch.where(mask.bool(), positions, -1).max(dim=1).values
    token_scores = torch.zeros(mask.shape, dtype=torch.float64)
    if at_turns is not None:
        token_scores += at_turns
    rows = (last >= 0).nonzero().flatten()
    token_scores[rows, last[rows]] += (scores - token_scores.sum(dim=1))[rows]
    batch.tensors["token_level_scores"] = token_scores.float()


def place_steps(
    trajectories: Sequence[Trajectory], steps: Sequence[Sequence[float]], width: int
) -> torch.Tensor:
    """Step rewards (see :class:`~verl.interfaces.RewardOutput`) on the last token of each of the
    policy's generations: (B, ``width``) float64. What belongs to no token is left out.

    Raises:
        ValueError: if a trajectory has neither no step reward nor one for each generation.
    """
    placed = torch.zeros(len(trajectories), width, dtype=torch.float64)
    for row, (trajectory, numbers) in enumerate(zip(trajectories, steps, strict=True)):
        ends = trajectory.turn_ends
        if len(numbers) not in (0, len(ends)):
            raise ValueError(
                f"the reward function gave {len(numbers)} step rewards for a trajectory of "
                f"{len(ends)} generations; it must give one each, or none"
            )
        for end, number in zip(ends, numbers, strict=False):
            if end >= 0:
                placed[row, end] += number
    return placed


def apply_kl_penalty(
    batch: DataProto, controller: KLController, estimator: str
) -> dict[str, float]:
    """Subtracts the KL to the reference from the token scores: ``token_level_rewards``."""
    tensors = batch.tensors
    mask = tensors["response_mask"].float()
    estimate = kl_penalty(tensors["old_log_probs"], tensors["ref_log_prob"], estimator) * mask
    coefficient = controller.value
    tensors["token_level_rewards"] = tensors["token_level_scores"] - coefficient * estimate
    per_trajectory = estimate.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    current = float(per_trajectory.mean())
    controller.update(current, n_steps=len(batch))
    return {"critic/kl": float(masked_mean(estimate, mask)), "critic/kl_coeff": coefficient}


def add_rollout_weights(batch: DataProto, config: AlgorithmConfig) -> dict[str, float]:
    """``rollout_weights`` (B, R) where engine and trainer are corrected, and what they are like."""
    tensors = batch.tensors
    if config.rollout_correction.level is None:
        return {}
    tensors["rollout_weights"], metrics = correction_weights(
        tensors["old_log_probs"],
        tensors["rollout_log_probs"],
        tensors["response_mask"],
        config.rollout_correction,
    )
    return metrics


def add_advantages(batch: DataProto, config: AlgorithmConfig) -> None:
    """``advantages`` and ``returns`` (B, R) by the configured algorithm."""
    tensors = batch.tensors
    scored = ScoredBatch(
        tensors["token_level_rewards"],
        tensors["response_mask"],
        batch.non_tensor_batch["uid"].tolist(),
        tensors.get("values"),
        tensors.get("greedy_scores"),
    )
    found = find_algorithm(config.adv_estimator).advantages(scored, config)
    tensors["advantages"], tensors["returns"] = found.advantages, found.returns
