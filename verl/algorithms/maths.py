"""Means, whitening and returns over masked tokens, groups, and entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of ``values`` where ``mask`` is 1; 0 if it is nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def masked_whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit (sample) variance over the masked tokens; others are shifted too."""
    mean = masked_mean(values, mask)
    count = mask.sum()
    variance = masked_mean((values - mean) ** 2, mask)
    if count > 1:
        variance = variance * count / (count - 1)
    return (values - mean) * torch.rsqrt(variance + 1e-8)


def returns_to_go(rewards: torch.Tensor, mask: torch.Tensor, gamma: float) -> torch.Tensor:
    """Discounted sum of the rewards from each sampled token on, along sampled tokens only.

    The step after a sampled token is the next *sampled* token: observations in between are no time
    steps. All are (B, T); rewards outside the mask count nothing, and returns are 0 there.
    """
    returns = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        here = mask[:, t]
        running = here * (rewards[:, t] + gamma * running) + (1 - here) * running
        returns[:, t] = here * running
    return returns


def group_rows(index: Sequence[object]) -> list[list[int]]:
    """Rows whose entries of ``index`` are equal, one list a group, in order of appearance."""
    groups: dict[object, list[int]] = {}
    for row, key in enumerate(index):
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def less_group_mean(scores: torch.Tensor, index: Sequence[object]) -> torch.Tensor:
    """(B,) scores less the mean of their group; a group of one keeps its score."""
    centred = scores.clone()
    for rows in group_rows(index):
        if len(rows) > 1:
            centred[rows] = scores[rows] - scores[rows].mean()
    return centred


def sequence_sums(values: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """For each token the sum of ``values`` over the tokens of its ``sample``; (n,) each."""
    samples, position = torch.unique(sample, return_inverse=True)
    sums = torch.zeros(len(samples), dtype=values.dtype, device=values.device)
    return sums.index_add(0, position, values)[position]


def entropy_from_logits(logits: torch.Tensor) -> torch.Tensor:
    """Entropy in nats over the last dimension."""
    log_probs = torch.log_softmax(logits, dim=-1)
    return -(log_probs.exp() * log_probs).sum(dim=-1)
