"""REINFORCE++ with a baseline: the group's mean comes off, the batch gives the scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from verl.algorithms.base import Advantages, of_groups
from verl.algorithms.maths import less_group_mean, masked_whiten


def compute_reinforce_plus_plus_baseline_outcome_advantage(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: Sequence[object]
) -> Advantages:
    """``r - mean`` in each group, then ``(A - mean) / std`` over the batch's sampled tokens (Hu et
    al. 2025, "REINFORCE++", the form for several samples a prompt).

    Shapes and groups are as in :func:`~verl.algorithms.grpo.compute_grpo_outcome_advantage`.
    """
    mask = response_mask.to(token_level_rewards.dtype)
    scores = token_level_rewards.sum(dim=-1)
    relative = less_group_mean(scores, index).unsqueeze(-1) * mask
    advantages = masked_whiten(relative, mask) * mask
    return Advantages(advantages, advantages)


ALGORITHM = of_groups(compute_reinforce_plus_plus_baseline_outcome_advantage, kl_in_loss=True)
