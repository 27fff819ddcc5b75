"""GRPO: samples of one prompt are the baseline of each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from verl.algorithms.base import Advantages, of_groups
from verl.algorithms.maths import group_rows


def compute_grpo_outcome_advantage(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: Sequence[object]
) -> Advantages:
    """Group-relative advantages (Shao et al. 2024): ``(r - mean) / (std + 1e-6)`` in each group.

    Args:
        token_level_rewards, response_mask: (B, T); a trajectory's reward is its sum.
        index: (B,) the prompt's identity; equal entries form a group. A group of one keeps its
            reward as advantage (mean 0, std 1).

    Returns:
        Advantages and returns (the same), (B, T), 0 outside the mask.
    """
    scores = token_level_rewards.sum(dim=-1)
    normalised = torch.empty_like(scores)
    for rows in group_rows(index):
        group = scores[rows]
        mean, std = (group.mean(), group.std()) if len(rows) > 1 else (0.0, 1.0)
        normalised[rows] = (group - mean) / (std + 1e-6)
    advantages = normalised.unsqueeze(-1) * response_mask.to(scores.dtype)
    return Advantages(advantages, advantages)


ALGORITHM = of_groups(compute_grpo_outcome_advantage, kl_in_loss=True)
