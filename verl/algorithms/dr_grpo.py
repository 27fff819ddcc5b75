"""Dr. GRPO: GRPO without the division by the group's standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from verl.algorithms.base import Advantages, of_groups
from verl.algorithms.maths import less_group_mean


def compute_dr_grpo_outcome_advantage(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: Sequence[object]
) -> Advantages:
    """``r - mean`` in each group (Liu et al. 2025, "Understanding R1-Zero-Like Training", section
    3.2); the paper divides the loss by a constant as well: ``seq-mean-token-sum-norm``.

    Shapes and groups are as in :func:`~verl.algorithms.grpo.compute_grpo_outcome_advantage`.
    """
    scores = token_level_rewards.sum(dim=-1)
    advantages = less_group_mean(scores, index).unsqueeze(-1) * response_mask.to(scores.dtype)
    return Advantages(advantages, advantages)


ALGORITHM = of_groups(compute_dr_grpo_outcome_advantage, kl_in_loss=True)
