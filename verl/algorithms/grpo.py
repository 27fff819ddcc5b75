"""GRPO: samples of one prompt are the baseline of each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from verl.algorithms.base import Advantages, Algorithm, ScoredBatch
from verl.algorithms.maths import group_rows
from verl.algorithms.settings import AdvantageSettings


def compute_grpo_outcome_advantage(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: Sequence[object],
    epsilon: float = 1e-6,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Group-relative advantages (Shao et al. 2024): ``(r - mean) / (std + eps)`` in each group.

    Args:
        token_level_rewards, response_mask: (B, T); a trajectory's reward is its sum.
        index: (B,) the prompt's identity; equal entries form a group. A group of one keeps its
            reward as advantage (mean 0, std 1).

    Returns:
        Advantages and returns (the same), (B, T), 0 outside the mask.
    """
    scores = (token_level_rewards).sum(dim=-1)
    with torch.no_grad():
        normalised = torch.empty_like(scores)
        for rows in group_rows(index):
            group = scores[rows]
            if len(rows) == 1:
                normalised[rows] = group / (1 + epsilon)
            else:
                normalised[rows] = (group - group.mean()) / (group.std() + epsilon)
        advantages = normalised.unsqueeze(-1) * response_mask.to(scores.dtype)
    return advantages, advantages


def _advantages(batch: ScoredBatch, config: AdvantageSettings) -> Advantages:  # noqa: ARG001
    return Advantages(
        *compute_grpo_outcome_advantage(batch.token_level_rewards, batch.response_mask, batch.index)
    )


ALGORITHM = Algorithm(_advantages, needs_groups=True, kl_in_loss=True)
