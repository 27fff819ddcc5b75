"""PPO with generalised advantage estimation."""

from __future__ import annotations

import torch

from verl.algorithms.base import Advantages, Algorithm, ScoredBatch
from verl.algorithms.maths import masked_whiten, returns_to_go
from verl.algorithms.settings import AdvantageSettings


@torch.no_grad()
def compute_gae_advantage_return(
    token_level_rewards: torch.Tensor,
    values: torch.Tensor,
    response_mask: torch.Tensor,
    gamma: float,
    lam: float,
) -> Advantages:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) along sampled tokens only, as
    :func:`~verl.algorithms.maths.returns_to_go`.

    Args:
        token_level_rewards, values, response_mask: (B, T).

    Returns:
        Whitened advantages and returns, (B, T). Returns are 0 outside the mask; advantages there
        are the constant that whitening makes of 0, and every loss masks them.
    """
    mask = response_mask.to(values.dtype)
    errors = torch.zeros_like(values)  # of the value of each token, by that of the next
    next_values = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        errors[:, t] = token_level_rewards[:, t] + gamma * next_values - values[:, t]
        next_values = torch.where(mask[:, t] > 0, values[:, t], next_values)
    advantages = returns_to_go(errors, mask, gamma * lam)
    return Advantages(masked_whiten(advantages, mask), (advantages + values) * mask)


def _advantages(batch: ScoredBatch, config: AdvantageSettings) -> Advantages:
    assert batch.values is not None
    return compute_gae_advantage_return(
        batch.token_level_rewards, batch.values, batch.response_mask, config.gamma, config.lam
    )


ALGORITHM = Algorithm(_advantages, needs_critic=True)
