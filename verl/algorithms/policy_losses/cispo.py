"""CISPO: REINFORCE with a clipped importance weight; no token loses its gradient."""

from __future__ import annotations

import torch

from verl.algorithms.losses import bounded_log_ratio
from verl.algorithms.policy_losses.base import PolicyTokens, TokenLosses
from verl.algorithms.settings import PolicyLossSettings


def weighted_log_prob(tokens: PolicyTokens, config: PolicyLossSettings) -> TokenLosses:
    """``-sg[clip(r, 1 - low, 1 + high)] A log p`` (MiniMax 2025, "MiniMax-M1", section 3.1);
    ``sg`` stops the gradient. The paper has no lower bound: ``low`` = 1."""
    low, high = config.clip_bounds
    log_ratio = bounded_log_ratio(tokens.log_prob, tokens.old_log_prob)
    ratio = torch.exp(log_ratio.detach())
    weight = ratio.clamp(1 - low, 1 + high)
    loss = -weight * tokens.advantages * tokens.log_prob
    return TokenLosses(loss, (weight != ratio).to(ratio.dtype), -log_ratio)


POLICY_LOSS = weighted_log_prob
