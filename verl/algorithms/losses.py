"""Ratios of probabilities, and the critic's loss per token; the caller masks, sums up and divides
by a mini-batch's tokens."""

from __future__ import annotations

import torch

LOG_RATIO_LIMIT = 20.0


def bounded_log_ratio(log_prob: torch.Tensor, old_log_prob: torch.Tensor) -> torch.Tensor:
    """``log_prob - old_log_prob``, clamped to ±20 so that its exponential is finite."""
    return (log_prob - old_log_prob).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def value_loss_per_token(
    vpreds: torch.Tensor, returns: torch.Tensor, values: torch.Tensor, cliprange_value: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the squared error, clipped around the old values, per token; and the clip's activity."""
    clipped_preds = values + (vpreds - values).clamp(-cliprange_value, cliprange_value)
    plain, clipped = (vpreds - returns) ** 2, (clipped_preds - returns) ** 2
    return 0.5 * torch.maximum(plain, clipped), (clipped > plain).to(vpreds.dtype)
