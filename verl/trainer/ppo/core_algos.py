"""The mathematics of PPO and GRPO, as pure functions of tensors.

Shapes: B trajectories, T response positions (observations among them, masked out). Every mean is
over the tokens that ``response_mask`` marks. Functions named ``*_per_token`` leave the reduction to
the caller, who divides by the token count of a whole mini-batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

LOG_RATIO_LIMIT = 20.0
_KL_LIMIT = 10.0


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


def compute_gae_advantage_return(
    token_level_rewards: torch.Tensor,
    values: torch.Tensor,
    response_mask: torch.Tensor,
    gamma: float,
    lam: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) along sampled tokens only.

    The step after a sampled token is the next *sampled* token: observations in between are no
    time steps.

    Args:
        token_level_rewards, values, response_mask: (B, T).

    Returns:
        Whitened advantages and returns, (B, T). Returns are 0 outside the mask; advantages there
        are the constant that whitening makes of 0, and every loss masks them.
    """
    mask = response_mask.to(values.dtype)
    advantages = torch.zeros_like(values)
    running = torch.zeros_like(values[:, 0])
    next_values = torch.zeros_like(values[:, 0])
    with torch.no_grad():
        for t in reversed(range(values.shape[1])):
            here = mask[:, t]
            delta = token_level_rewards[:, t] + gamma * next_values - values[:, t]
            running = here * (delta + gamma * lam * running) + (1 - here) * running
            next_values = here * values[:, t] + (1 - here) * next_values
            advantages[:, t] = here * running
        returns = (advantages + values) * mask
        return masked_whiten(advantages, mask), returns


def compute_grpo_outcome_advantage(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: Sequence[object],
    epsilon: float = 1e-6,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Group-relative advantages (Shao et al. 2024): ``(r - mean) / (std + eps)`` in each group.

    Args:
        token_level_rewards, response_mask: (B, T); a trajectory's reward is its sum.
        index: (B,) the prompt's identity; equal entries form a group. A group of one keeps its
            reward as advantage (mean 0, std 1).

    Returns:
        Advantages and returns (the same), (B, T), 0 outside the mask.
    """
    scores = (token_level_rewards).sum(dim=-1)
    groups: dict[object, list[int]] = {}
    for row, key in enumerate(index):
        groups.setdefault(key, []).append(row)
    with torch.no_grad():
        normalised = torch.empty_like(scores)
        for rows in groups.values():
            group = scores[rows]
            if len(rows) == 1:
                normalised[rows] = group / (1 + epsilon)
            else:
                normalised[rows] = (group - group.mean()) / (group.std() + epsilon)
        advantages = normalised.unsqueeze(-1) * response_mask.to(scores.dtype)
    return advantages, advantages


def policy_loss_per_token(
    old_log_prob: torch.Tensor, log_prob: torch.Tensor, advantages: torch.Tensor, cliprange: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clipped surrogate (Schulman et al. 2017, eq. 7), negated, per token.

    Returns:
        Loss, whether the clip is active (0/1), and ``old - new`` log-prob, each shaped as the
        inputs. Log-ratios are clamped to ±20 before the exponential.
    """
    log_ratio = (log_prob - old_log_prob).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    ratio = torch.exp(log_ratio)
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return torch.maximum(unclipped, clipped), (clipped > unclipped).to(ratio.dtype), -log_ratio


def compute_policy_loss(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    cliprange: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token means of :func:`policy_loss_per_token`: ``(pg_loss, pg_clipfrac, ppo_kl)``."""
    mask = response_mask.to(log_prob.dtype)
    loss, clipped, kl = policy_loss_per_token(old_log_prob, log_prob, advantages, cliprange)
    return masked_mean(loss, mask), masked_mean(clipped, mask), masked_mean(kl, mask)


def value_loss_per_token(
    vpreds: torch.Tensor, returns: torch.Tensor, values: torch.Tensor, cliprange_value: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the squared error, clipped around the old values, per token; and the clip's activity."""
    clipped_preds = values + (vpreds - values).clamp(-cliprange_value, cliprange_value)
    plain, clipped = (vpreds - returns) ** 2, (clipped_preds - returns) ** 2
    return 0.5 * torch.maximum(plain, clipped), (clipped > plain).to(vpreds.dtype)


def compute_value_loss(
    vpreds: torch.Tensor,
    returns: torch.Tensor,
    values: torch.Tensor,
    response_mask: torch.Tensor,
    cliprange_value: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token means of :func:`value_loss_per_token`: ``(vf_loss, vf_clipfrac)``."""
    mask = response_mask.to(vpreds.dtype)
    loss, clipped = value_loss_per_token(vpreds, returns, values, cliprange_value)
    return masked_mean(loss, mask), masked_mean(clipped, mask)


def entropy_from_logits(logits: torch.Tensor) -> torch.Tensor:
    """Entropy in nats over the last dimension."""
    log_probs = torch.log_softmax(logits, dim=-1)
    return -(log_probs.exp() * log_probs).sum(dim=-1)


def kl_penalty(logprob: torch.Tensor, ref_logprob: torch.Tensor, kl_penalty: str) -> torch.Tensor:
    """Per-token estimate of KL(policy || reference) (Schulman 2020, "Approximating KL").

    Args:
        kl_penalty: "kl" (k1), "abs", "mse" (k2) or "low_var_kl" (k3, clamped to ±10).

    Raises:
        ValueError: for another name.
    """
    difference = logprob - ref_logprob
    if kl_penalty == "kl":
        return difference
    if kl_penalty == "abs":
        return difference.abs()
    if kl_penalty == "mse":
        return 0.5 * difference.square()
    if kl_penalty == "low_var_kl":
        negated = (-difference).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
        return (negated.exp() - negated - 1).clamp(-_KL_LIMIT, _KL_LIMIT)
    raise ValueError(f"unknown KL estimator {kl_penalty!r}; choose kl, abs, mse or low_var_kl")


class FixedKLController:
    """A constant coefficient."""

    def __init__(self, kl_coef: float) -> None:
        self.value = kl_coef

    def update(self, current_kl: float, n_steps: int) -> None:
        """Changes nothing; the signature is the adaptive controller's."""


class AdaptiveKLController:
    """Moves the coefficient so that the KL nears a target (Ziegler et al. 2019, section 2.2).

    Args:
        init_kl_coef: first coefficient.
        target_kl: wanted KL per token, nats.
        horizon: samples; larger moves more slowly.
    """

    def __init__(self, init_kl_coef: float, target_kl: float, horizon: int) -> None:
        self.value = init_kl_coef
        self.target = target_kl
        self.horizon = horizon

    def update(self, current_kl: float, n_steps: int) -> None:
        """After ``n_steps`` samples with a mean KL of ``current_kl``."""
        error = min(max(current_kl / self.target - 1, -0.2), 0.2)
        self.value *= 1 + error * n_steps / self.horizon
