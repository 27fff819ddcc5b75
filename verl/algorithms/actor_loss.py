"""The actor's loss of a micro-batch: policy loss, entropy and KL, weighed and summed.

Guarantees: each term is a sum over the micro-batch's sampled tokens, so a mini-batch's is the sum
of its micro-batches'; what stands on other tokens counts nothing.

Shapes: n response tokens of the micro-batch, flat.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from verl.algorithms.kl import kl_penalty
from verl.algorithms.policy_losses.base import PolicyLoss, PolicyTokens
from verl.algorithms.settings import ActorLossSettings

# Sums of weight x value, over the aggregation's total; the others are means over sampled tokens.
AGGREGATED = ("pg_loss", "entropy_loss", "kl_loss")
# Every term of a configuration with a KL in the loss, in the order of its metrics.
TERMS = (
    *("pg_loss", "entropy_loss", "pg_clipfrac", "ppo_kl"),
    *("entropy", "log_prob_change", "kl_loss"),
)


@dataclass(frozen=True)
class ActorTokens:
    """What the actor's loss is computed from; (n,) each.

    Attributes:
        policy: for the policy loss.
        entropy: of the policy being updated.
        weights: of the aggregation, 0 on tokens that were not sampled.
        ref_log_prob: of the reference; None without a KL in the loss.
        rollout_weights: of the correction between engine and trainer; None without one.
    """

    policy: PolicyTokens
    entropy: torch.Tensor
    weights: torch.Tensor
    ref_log_prob: torch.Tensor | None = None
    rollout_weights: torch.Tensor | None = None


def actor_terms(
    tokens: ActorTokens, config: ActorLossSettings, policy_loss: PolicyLoss
) -> dict[str, torch.Tensor]:
    """The terms that a mini-batch's loss and metrics are made of, by name: some of ``TERMS``."""
    policy, weights = tokens.policy, tokens.weights
    mask = policy.response_mask
    loss, clipped, kl = policy_loss(policy, config)
    if tokens.rollout_weights is not None:
        loss = loss * tokens.rollout_weights
    terms = {
        "pg_loss": (loss * weights).sum(),
        "entropy_loss": (tokens.entropy * weights).sum(),
        "pg_clipfrac": (clipped * mask).sum(),
        "ppo_kl": (kl * mask).sum(),
        "entropy": (tokens.entropy.detach() * mask).sum(),
        "log_prob_change": (kl.detach().abs() * mask).sum(),
    }
    if tokens.ref_log_prob is not None:
        estimate = kl_penalty(policy.log_prob, tokens.ref_log_prob, config.kl_loss_type)
        terms["kl_loss"] = (estimate * weights).sum()
    return terms


def weighted_loss(terms: dict[str, torch.Tensor], config: ActorLossSettings) -> torch.Tensor:
    """The loss of the actor's terms; one with a coefficient of 0 gets no gradient at all."""
    loss = terms["pg_loss"]
    if config.entropy_coeff:
        loss = loss - config.entropy_coeff * terms["entropy_loss"]
    if config.has_kl_loss:
        loss = loss + config.kl_loss_coef * terms["kl_loss"]
    return loss
