"""What an algorithm is: how advantages come from rewards, what the policy's loss is, what it needs.

Shapes: B trajectories, T response positions (observations among them, masked out); n response
tokens of a micro-batch, flat, of several trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from verl.algorithms.losses import clipped_surrogate

if TYPE_CHECKING:
    from verl.config.model import ActorConfig
    from verl.config.ppo import AlgorithmConfig


@dataclass(frozen=True)
class ScoredBatch:
    """What advantages are computed from.

    Attributes:
        token_level_rewards: (B, T); the KL is off already where it goes into the reward.
        response_mask: (B, T), 1 on sampled tokens.
        index: (B,) the prompt's identity; equal entries are samples of one prompt.
        values: (B, T) of the critic; None without one.
    """

    token_level_rewards: torch.Tensor
    response_mask: torch.Tensor
    index: Sequence[object]
    values: torch.Tensor | None = None


class Advantages(NamedTuple):
    """Advantages, and the returns that a critic learns; (B, T) each."""

    advantages: torch.Tensor
    returns: torch.Tensor


@dataclass(frozen=True)
class PolicyTokens:
    """What a policy loss is computed from; (n,) each.

    Attributes:
        old_log_prob: of the policy that sampled; log_prob: of the one being updated.
        advantages: constants.
        response_mask: 1 on sampled tokens.
        sample: int64, equal on tokens of one trajectory, of which a micro-batch holds all.
    """

    old_log_prob: torch.Tensor
    log_prob: torch.Tensor
    advantages: torch.Tensor
    response_mask: torch.Tensor
    sample: torch.Tensor


class TokenLosses(NamedTuple):
    """The loss, whether the clip is active (0/1), and an estimate of the KL to the old policy; (n,)
    each. The caller masks them and divides by the sampled tokens of the whole mini-batch."""

    loss: torch.Tensor
    clipped: torch.Tensor
    kl: torch.Tensor


def ppo_loss(tokens: PolicyTokens, config: ActorConfig) -> TokenLosses:
    """PPO's clipped surrogate with ``actor.clip_ratio``."""
    return TokenLosses(
        *clipped_surrogate(
            tokens.old_log_prob, tokens.log_prob, tokens.advantages, config.clip_ratio
        )
    )


PolicyLoss = Callable[[PolicyTokens, "ActorConfig"], TokenLosses]


@dataclass(frozen=True)
class Algorithm:
    """An RL algorithm.

    Attributes:
        advantages: from a scored batch.
        policy_loss: worker processes call it: a function of a module.
        needs_critic: trains a value model, which ``ScoredBatch.values`` and the returns are for.
        needs_groups: compares the samples of one prompt, so it needs several.
        kl_in_loss: where the KL to the reference goes unless the user says: into the policy's
            loss, or else into the reward.
    """

    advantages: Callable[[ScoredBatch, AlgorithmConfig], Advantages]
    policy_loss: PolicyLoss = ppo_loss
    needs_critic: bool = False
    needs_groups: bool = False
    kl_in_loss: bool = False
