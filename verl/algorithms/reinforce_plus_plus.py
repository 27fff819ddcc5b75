"""REINFORCE++: returns along the sampled tokens, whitened over the batch; no critic."""

from __future__ import annotations

import torch

from verl.algorithms.base import Advantages, Algorithm, ScoredBatch
from verl.algorithms.maths import masked_whiten, returns_to_go
from verl.algorithms.settings import AdvantageSettings


def compute_reinforce_plus_plus_outcome_advantage(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, gamma: float
) -> Advantages:
    """``G_t = r_t + gamma G_(t+1)``, then ``(G - mean) / std`` over the batch's sampled tokens (Hu
    et al. 2025, "REINFORCE++").

    Rewards, mask, advantages and returns are (B, T), the latter two 0 outside the mask; ``gamma``
    is the discount from one sampled token to the next.
    """
    mask = response_mask.to(token_level_rewards.dtype)
    returns = returns_to_go(token_level_rewards, mask, gamma)
    return Advantages(masked_whiten(returns, mask) * mask, returns)


def _advantages(batch: ScoredBatch, config: AdvantageSettings) -> Advantages:
    return compute_reinforce_plus_plus_outcome_advantage(
        batch.token_level_rewards, batch.response_mask, config.gamma
    )


ALGORITHM = Algorithm(_advantages)
