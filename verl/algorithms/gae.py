"""PPO with generalised advantage estimation."""

from __future__ import annotations

import torch

from verl.algorithms.base import Advantages, Algorithm, ScoredBatch
from verl.algorithms.maths import masked_whiten
from verl.algorithms.settings import AdvantageSettings


def compute_gae_advantage_return(
    token_level_rewards: torch.Tensor,
    values: torch.Tensor,
    response_mask: torch.Tensor,
    gamma: float,
    lam: float,
) -> Advantages:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) along sampled tokens only.

    The step after a sampled token is the next *sampled* token: observations in between are no
    time steps.

    Args:
        token_level_rewards, values, response_mask: (B, T).

    Returns:
        Whitened advantages and returns, (B, T). Returns are 0 outside the mask; advantages there
        are the constant that whitening makes of 0, and every loss masks them.
    """
    mask = response_mask.to(values.dtype)
    advantages = torch.zeros_like(values)
    running = torch.zeros_like(values[:, 0])
    next_values = torch.zeros_like(values[:, 0])
    with torch.no_grad():
        for t in reversed(range(values.shape[1])):
            here = mask[:, t]
            delta = token_level_rewards[:, t] + gamma * next_values - values[:, t]
            running = here * (delta + gamma * lam * running) + (1 - here) * running
            next_values = here * values[:, t] + (1 - here) * next_values
            advantages[:, t] = here * running
        returns = (advantages + values) * mask
        return Advantages(masked_whiten(advantages, mask), returns)


def _advantages(batch: ScoredBatch, config: AdvantageSettings) -> Advantages:
    assert batch.values is not None
    return compute_gae_advantage_return(
        batch.token_level_rewards, batch.values, batch.response_mask, config.gamma, config.lam
    )


ALGORITHM = Algorithm(_advantages, needs_critic=True)
