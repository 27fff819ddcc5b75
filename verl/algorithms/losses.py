"""Losses per token; the caller masks them, sums them up and divides by a mini-batch's tokens."""

from __future__ import annotations

import torch

LOG_RATIO_LIMIT = 20.0


def clipped_surrogate(
    old_log_prob: torch.Tensor, log_prob: torch.Tensor, advantages: torch.Tensor, cliprange: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """PPO's clipped surrogate (Schulman et al. 2017, eq. 7), negated, per token.

    Returns:
        Loss, whether the clip is active (0/1), and ``old - new`` log-prob, each shaped as the
        inputs. Log-ratios are clamped to ±20 before the exponential.
    """
    log_ratio = (log_prob - old_log_prob).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    ratio = torch.exp(log_ratio)
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return torch.maximum(unclipped, clipped), (clipped > unclipped).to(ratio.dtype), -log_ratio


def value_loss_per_token(
    vpreds: torch.Tensor, returns: torch.Tensor, values: torch.Tensor, cliprange_value: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the squared error, clipped around the old values, per token; and the clip's activity."""
    clipped_preds = values + (vpreds - values).clamp(-cliprange_value, cliprange_value)
    plain, clipped = (vpreds - returns) ** 2, (clipped_preds - returns) ** 2
    return 0.5 * torch.maximum(plain, clipped), (clipped > plain).to(vpreds.dtype)
