"""What an algorithm is: how advantages come from rewards, and what that takes.

Shapes: B trajectories, T response positions (observations among them, masked out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from verl.algorithms.settings import AdvantageSettings


@dataclass(frozen=True)
class ScoredBatch:
    """What advantages are computed from.

    Attributes:
        token_level_rewards: (B, T); the KL is off already where it goes into the reward.
        response_mask: (B, T), 1 on sampled tokens.
        index: (B,) the prompt's identity; equal entries are samples of one prompt.
        values: (B, T) of the critic; None without one.
        greedy_scores: (B,) what a greedy trajectory of the same prompt scores; None where the
            algorithm does not ask for it.
    """

    token_level_rewards: torch.Tensor
    response_mask: torch.Tensor
    index: Sequence[object]
    values: torch.Tensor | None = None
    greedy_scores: torch.Tensor | None = None


class Advantages(NamedTuple):
    """Advantages, and the returns that a critic learns; (B, T) each."""

    advantages: torch.Tensor
    returns: torch.Tensor


@dataclass(frozen=True)
class Algorithm:
    """An RL algorithm.

    Attributes:
        advantages: from a scored batch.
        needs_critic: trains a value model, which ``ScoredBatch.values`` and the returns are for.
        needs_groups: compares the samples of one prompt, so it needs several.
        needs_greedy_baseline: needs ``ScoredBatch.greedy_scores``: each prompt is rolled out once
            more, greedily; that trajectory is scored and not learned from.
        kl_in_loss: where the KL to the reference goes unless the user says: into the policy's
            loss, or else into the reward.
    """

    advantages: Callable[[ScoredBatch, AdvantageSettings], Advantages]
    needs_critic: bool = False
    needs_groups: bool = False
    needs_greedy_baseline: bool = False
    kl_in_loss: bool = False


def of_groups(
    formula: Callable[[torch.Tensor, torch.Tensor, Sequence[object]], Advantages],
    kl_in_loss: bool,
) -> Algorithm:
    """An algorithm that compares the samples of a prompt: ``formula`` takes a
    :class:`ScoredBatch`'s rewards, mask and index."""

    def advantages(batch: ScoredBatch, _: AdvantageSettings) -> Advantages:
        return formula(batch.token_level_rewards, batch.response_mask, batch.index)

    return Algorithm(advantages, needs_groups=True, kl_in_loss=kl_in_loss)
