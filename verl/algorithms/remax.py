"""ReMax: REINFORCE whose baseline is the score of a greedy trajectory of the same prompt."""

from __future__ import annotations

import torch

from verl.algorithms.base import Advantages, Algorithm, ScoredBatch
from verl.algorithms.maths import returns_to_go
from verl.algorithms.settings import AdvantageSettings


def compute_remax_outcome_advantage(
    token_level_rewards: torch.Tensor, reward_baselines: torch.Tensor, response_mask: torch.Tensor
) -> Advantages:
    """``sum of r from here on - score of the greedy trajectory`` (Li et al. 2024, "ReMax").

    Args:
        reward_baselines: (B,) the greedy trajectory's score; the others are (B, T).

    Returns:
        Advantages, and the returns without the baseline; (B, T), 0 outside the mask.
    """
    mask = response_mask.to(token_level_rewards.dtype)
    returns = returns_to_go(token_level_rewards, mask, gamma=1.0)
    baselines = reward_baselines.to(mask.dtype).unsqueeze(-1)
    return Advantages(returns - baselines * mask, returns)


def _advantages(batch: ScoredBatch, _: AdvantageSettings) -> Advantages:
    assert batch.greedy_scores is not None
    return compute_remax_outcome_advantage(
        batch.token_level_rewards, batch.greedy_scores, batch.response_mask
    )


ALGORITHM = Algorithm(_advantages, needs_greedy_baseline=True)
