"""RLOO: REINFORCE whose baseline is the mean of the prompt's other samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from verl.algorithms.base import Advantages, of_groups
from verl.algorithms.maths import group_rows


def compute_rloo_outcome_advantage(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: Sequence[object]
) -> Advantages:
    """``r_i - mean of r_j, j != i`` in each group (Ahmadian et al. 2024, "Back to Basics"; Kool
    et al. 2019).

    Shapes and groups are as in :func:`~verl.algorithms.grpo.compute_grpo_outcome_advantage`.
    """
    scores = token_level_rewards.sum(dim=-1)
    relative = scores.clone()
    for rows in group_rows(index):
        group, others = scores[rows], len(rows) - 1
        if others:
            relative[rows] = group - (group.sum() - group) / others
    advantages = relative.unsqueeze(-1) * response_mask.to(scores.dtype)
    return Advantages(advantages, advantages)


ALGORITHM = of_groups(compute_rloo_outcome_advantage, kl_in_loss=False)
