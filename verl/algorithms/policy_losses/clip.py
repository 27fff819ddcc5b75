"""PPO's clipped surrogate, with bounds of their own below and above, and a dual clip."""

from __future__ import annotations

import torch

from verl.algorithms.losses import bounded_log_ratio
from verl.algorithms.policy_losses.base import PolicyTokens, TokenLosses
from verl.algorithms.settings import PolicyLossSettings


def clipped_surrogate(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    low: float,
    high: float,
    dual: float | None = None,
) -> TokenLosses:
    """``max(-A r, -A clip(r, 1 - low, 1 + high))``, and where A < 0 at most ``-A dual``; r is the
    ratio of the new to the old probability, its logarithm clamped to ±20.

    Schulman et al. 2017, eq. 7; bounds that differ: Yu et al. 2025, "DAPO", section 3.1; dual clip:
    Ye et al. 2020, "Mastering Complex Control in MOBA Games".

    Returns:
        Loss, whether ``low`` or ``high`` is active (0/1), and ``old - new`` log-prob, each shaped
        as the inputs.
    """
    log_ratio = bounded_log_ratio(log_prob, old_log_prob)
    ratio = torch.exp(log_ratio)
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - low, 1 + high)
    loss = torch.maximum(unclipped, clipped)
    if dual is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -advantages * dual), loss)
    return TokenLosses(loss, (clipped > unclipped).to(ratio.dtype), -log_ratio)


def _loss(tokens: PolicyTokens, config: PolicyLossSettings) -> TokenLosses:
    low, high = config.clip_bounds
    return clipped_surrogate(
        tokens.old_log_prob, tokens.log_prob, tokens.advantages, low, high, config.clip_ratio_c
    )


POLICY_LOSS = _loss
