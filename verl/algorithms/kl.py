"""KL to the reference policy: estimators per token, and controllers of its coefficient."""

from __future__ import annotations

import torch

from verl.algorithms.losses import bounded_log_ratio

_KL_LIMIT = 10.0


def kl_penalty(logprob: torch.Tensor, ref_logprob: torch.Tensor, kl_penalty: str) -> torch.Tensor:
    """Per-token estimate of KL(policy || reference) (Schulman 2020, "Approximating KL").

    Args:
        kl_penalty: "kl" (k1), "abs", "mse" (k2) or "low_var_kl" (k3, clamped to ±10); another
            name raises :class:`ValueError`.
    """
    difference = logprob - ref_logprob
    if kl_penalty == "kl":
        return difference
    if kl_penalty == "abs":
        return difference.abs()
    if kl_penalty == "mse":
        return 0.5 * difference.square()
    if kl_penalty == "low_var_kl":
        negated = bounded_log_ratio(ref_logprob, logprob)
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
