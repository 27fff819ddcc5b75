"""The algorithms' mathematics under veRL's names, on (B, T) tensors; they live in
:mod:`verl.algorithms`.

Shapes: B trajectories, T response positions (observations among them, masked out). Every mean is
over the tokens that ``response_mask`` marks.
"""

from __future__ import annotations

import torch

from verl.algorithms.dr_grpo import compute_dr_grpo_outcome_advantage
from verl.algorithms.gae import compute_gae_advantage_return
from verl.algorithms.grpo import compute_grpo_outcome_advantage
from verl.algorithms.kl import AdaptiveKLController, FixedKLController, kl_penalty
from verl.algorithms.losses import value_loss_per_token
from verl.algorithms.maths import masked_mean
from verl.algorithms.policy_losses.clip import clipped_surrogate
from verl.algorithms.reinforce_plus_plus import compute_reinforce_plus_plus_outcome_advantage
from verl.algorithms.reinforce_plus_plus_baseline import (
    compute_reinforce_plus_plus_baseline_outcome_advantage,
)
from verl.algorithms.remax import compute_remax_outcome_advantage
from verl.algorithms.rloo import compute_rloo_outcome_advantage

__all__ = [
    "AdaptiveKLController",
    "FixedKLController",
    "compute_dr_grpo_outcome_advantage",
    "compute_gae_advantage_return",
    "compute_grpo_outcome_advantage",
    "compute_policy_loss",
    "compute_reinforce_plus_plus_baseline_outcome_advantage",
    "compute_reinforce_plus_plus_outcome_advantage",
    "compute_remax_outcome_advantage",
    "compute_rloo_outcome_advantage",
    "compute_value_loss",
    "kl_penalty",
]


def compute_policy_loss(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    cliprange: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token means of the clipped surrogate: ``(pg_loss, pg_clipfrac, ppo_kl)``."""
    mask = response_mask.to(log_prob.dtype)
    loss, clipped, kl = clipped_surrogate(old_log_prob, log_prob, advantages, cliprange, cliprange)
    return masked_mean(loss, mask), masked_mean(clipped, mask), masked_mean(kl, mask)


def compute_value_loss(
    vpreds: torch.Tensor,
    returns: torch.Tensor,
    values: torch.Tensor,
    response_mask: torch.Tensor,
    cliprange_value: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token means of the clipped value loss: ``(vf_loss, vf_clipfrac)``."""
    mask = response_mask.to(vpreds.dtype)
    loss, clipped = value_loss_per_token(vpreds, returns, values, cliprange_value)
    return masked_mean(loss, mask), masked_mean(clipped, mask)
