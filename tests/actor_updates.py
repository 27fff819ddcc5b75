"""The actor's loss of a mini-batch by the functions that its worker calls, without processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from verl.algorithms.actor_loss import ActorTokens, actor_terms, weighted_loss
from verl.algorithms.aggregation import Counts, aggregation, count_sampled
from verl.algorithms.policy_losses import find_policy_loss
from verl.algorithms.policy_losses.base import PolicyTokens
from verl.config.model import ActorConfig


def loss_and_gradient(
    columns: Mapping[str, torch.Tensor],
    config: ActorConfig,
    cut: Sequence[Sequence[int]] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    """Of a mini-batch whose rows are cut into micro-batches, an empty one perhaps among them.

    Args:
        columns: (B, T) each: log_prob, old_log_probs, advantages, response_mask; perhaps entropy,
            ref_log_prob and rollout_weights.

    Returns:
        The loss, its gradient by ``log_prob`` (B, T), and the terms' sums.
    """
    log_prob = columns["log_prob"].clone().requires_grad_()
    mask = columns["response_mask"]
    weights, total = aggregation(mask, Counts(*count_sampled(mask).tolist()), config)
    entropy = columns.get("entropy", torch.zeros_like(mask))
    loss, sums = torch.zeros((), dtype=mask.dtype), dict[str, float]()
    for rows in cut if cut is not None else [range(len(mask))]:
        sample = torch.tensor(list(rows), dtype=torch.int64).repeat_interleave(mask.shape[1])
        offset = torch.arange(mask.shape[1]).repeat(len(rows))

        def flat(values: torch.Tensor, where: tuple = (sample, offset)) -> torch.Tensor:
            return values[where]

        old, advantages = flat(columns["old_log_probs"]), flat(columns["advantages"])
        tokens = ActorTokens(
            PolicyTokens(old, flat(log_prob), advantages, flat(mask), sample),
            flat(entropy),
            flat(weights),
            flat(columns["ref_log_prob"]) if config.has_kl_loss else None,
            flat(columns["rollout_weights"]) if "rollout_weights" in columns else None,
        )
        terms = actor_terms(tokens, config, find_policy_loss(config.policy_loss))
        loss = loss + weighted_loss(terms, config) / total
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
    (gradient,) = torch.autograd.grad(loss, log_prob)
    return loss.detach(), gradient, sums
