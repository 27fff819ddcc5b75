"""What a policy loss is: from the tokens of whole trajectories to a loss for each.

Shapes: n response tokens of a micro-batch, flat, of several trajectories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from verl.algorithms.settings import PolicyLossSettings


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
    each. The caller weighs and sums them (:mod:`verl.algorithms.aggregation`)."""

    loss: torch.Tensor
    clipped: torch.Tensor
    kl: torch.Tensor


PolicyLoss = Callable[[PolicyTokens, PolicyLossSettings], TokenLosses]
