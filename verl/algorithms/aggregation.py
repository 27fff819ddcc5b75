"""From losses of tokens to the loss of a mini-batch: weights that are known before any is computed.

Guarantees: a mini-batch's loss is the sum over its tokens of weight x loss, divided by one number,
so the sum over any micro-batches and ranks is the whole's; a trajectory without a sampled token
counts as none.

With N sampled tokens and S trajectories in the mini-batch, L(i) sampled tokens in the i-th:

========================= =============================== ================================
mode                      loss                            source
========================= =============================== ================================
token-mean                sum of all / N                  Yu et al. 2025, "DAPO"
seq-mean-token-sum        sum of all / S                  the plain policy gradient
seq-mean-token-mean       sum of (sum of i-th / L(i)) / S Shao et al. 2024, "DeepSeekMath"
seq-mean-token-sum-norm   sum of all / (S x horizon)      Liu et al. 2025, "Dr. GRPO"
========================= =============================== ================================
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from verl.algorithms.settings import ActorLossSettings


class Counts(NamedTuple):
    """Sampled tokens of a whole mini-batch over all ranks, and trajectories with at least one."""

    tokens: float
    sequences: float


def count_sampled(response_mask: torch.Tensor) -> torch.Tensor:
    """(2,) float64: what :class:`Counts` holds, of the trajectories of a (B, T) mask."""
    lengths = response_mask.sum(dim=1)
    return torch.stack([lengths.sum(), (lengths > 0).sum()]).to(torch.float64)


def aggregation(
    response_mask: torch.Tensor, counts: Counts, config: ActorLossSettings
) -> tuple[torch.Tensor, float]:
    """How token losses add up to a mini-batch's, as ``actor.loss_agg_mode`` says.

    Args:
        response_mask: (B, T) floats, of some of a mini-batch's trajectories.
        counts: of all of them.

    Returns:
        Weights (B, T), 0 on tokens that were not sampled; and what the weighted sum over all
        trajectories is divided by.
    """
    mode, sequences = config.loss_agg_mode, max(1.0, counts.sequences)
    if mode == "token-mean":
        return response_mask, max(1.0, counts.tokens)
    if mode == "seq-mean-token-mean":
        lengths = response_mask.sum(dim=1, keepdim=True).clamp(min=1)
        return response_mask / lengths, sequences
    if mode == "seq-mean-token-sum-norm":
        assert config.loss_agg_horizon is not None
        return response_mask, sequences * config.loss_agg_horizon
    return response_mask, sequences
