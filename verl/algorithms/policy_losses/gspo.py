"""GSPO: one ratio a trajectory, the geometric mean of those of its tokens."""

from __future__ import annotations

import torch

from verl.algorithms.losses import bounded_log_ratio
from verl.algorithms.maths import sequence_sums
from verl.algorithms.policy_losses.base import PolicyTokens, TokenLosses
from verl.algorithms.settings import PolicyLossSettings


def sequence_surrogate(tokens: PolicyTokens, config: PolicyLossSettings) -> TokenLosses:
    """The clipped surrogate of ``s_t = sg[s] p_t / sg[p_t]`` with ``s = (p/p_old)^(1/length)``
    (Zheng et al. 2025, "Group Sequence Policy Optimization", eqs. 7, 13 and 14).

    ``sg`` stops the gradient: each token has the value of its trajectory's ratio, and a gradient of
    its own, so that advantages may differ from token to token. Length and ratio are those of the
    sampled tokens. The paper's aggregation is ``seq-mean-token-mean``; its bounds are near 3e-4 and
    4e-4, as ``s`` hardly moves.
    """
    low, high = config.clip_bounds
    log_ratio = bounded_log_ratio(tokens.log_prob, tokens.old_log_prob)
    mask = tokens.response_mask
    length = sequence_sums(mask, tokens.sample).clamp(min=1)
    sequence = (sequence_sums(log_ratio * mask, tokens.sample) / length).detach()
    ratio = torch.exp(tokens.log_prob - tokens.log_prob.detach() + sequence)
    unclipped = -tokens.advantages * ratio
    clipped = -tokens.advantages * ratio.clamp(1 - low, 1 + high)
    loss = torch.maximum(unclipped, clipped)
    return TokenLosses(loss, (clipped > unclipped).to(ratio.dtype), -log_ratio)


POLICY_LOSS = sequence_surrogate
