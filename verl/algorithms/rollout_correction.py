"""Importance weights between the engine that sampled and the trainer that learns.

Engine and trainer compute the same policy with other kernels and precisions, so tokens come from a
slightly different distribution than the trainer takes them to. With ``r = p_trainer / p_engine`` of
a token, or their product over a trajectory, the policy's loss of each token is multiplied by

* ``truncate``: ``min(r, upper)`` (Ionides 2008; Yao et al. 2025, "Your Efficient RL Framework
  Secretly Brings You Off-Policy RL Training")
* ``mask``: ``r`` where ``lower <= r <= upper``, else 0 (per token: Ling Team 2025, "Every Step
  Evolves", IcePop; per trajectory: Liu et al. 2025, "When Speed Kills Stability")
"""

from __future__ import annotations

import torch

from verl.algorithms.losses import LOG_RATIO_LIMIT
from verl.algorithms.maths import masked_mean
from verl.algorithms.settings import CorrectionSettings


def correction_weights(
    old_log_prob: torch.Tensor,
    rollout_log_prob: torch.Tensor,
    response_mask: torch.Tensor,
    config: CorrectionSettings,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Constant weights as ``algorithm.rollout_correction`` says, which has a level.

    Args:
        old_log_prob: (B, T) the trainer's, of the policy that sampled; rollout_log_prob: the
            engine's.
        response_mask: (B, T), 1 on sampled tokens.

    Returns:
        (B, T) weights, 0 on other tokens; and ``rollout_corr/*``: mean weight, mean ratio,
        estimates of KL(engine || trainer) in nats a token (k1, k3), the share of tokens whose ratio
        is beyond a bound. Log-ratios are clamped to ±20.
    """
    mask = response_mask.to(old_log_prob.dtype)
    difference = (old_log_prob - rollout_log_prob) * mask
    log_ratio = difference
    if config.level == "sequence":
        log_ratio = difference.sum(dim=1, keepdim=True).expand_as(difference)
    ratio = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    beyond = ratio > config.upper
    if config.mode == "mask":
        beyond = beyond | (ratio < config.lower)
        weights = torch.where(beyond, 0.0, ratio)
    else:
        weights = ratio.clamp(max=config.upper)
    token_difference = difference.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    share = "masked_share" if config.mode == "mask" else "truncated_share"
    metrics = {
        "mean_weight": weights,
        "mean_ratio": ratio,
        "kl": -difference,
        "k3_kl": token_difference.exp() - token_difference - 1,
        share: beyond.to(mask.dtype),
    }
    means = {f"rollout_corr/{n}": float(masked_mean(v, mask)) for n, v in metrics.items()}
    return weights * mask, means
