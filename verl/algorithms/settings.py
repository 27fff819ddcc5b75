"""What the formulas read of a configuration, whose dataclasses (:mod:`verl.config`) say what each
setting means and check its values."""

from __future__ import annotations

from typing import Protocol


class AdvantageSettings(Protocol):
    """Of :class:`verl.config.algorithm.AlgorithmConfig`: what advantages depend on."""

    gamma: float
    lam: float


class CorrectionSettings(Protocol):
    """Of :class:`verl.config.algorithm.RolloutCorrectionConfig`."""

    level: str | None
    mode: str
    upper: float
    lower: float


class PolicyLossSettings(Protocol):
    """Of :class:`verl.config.model.ActorConfig`: what a policy loss depends on."""

    clip_ratio_c: float | None

    @property
    def clip_bounds(self) -> tuple[float, float]:
        """How far the ratio may go below and above 1."""


class ActorLossSettings(PolicyLossSettings, Protocol):
    """Of :class:`verl.config.model.ActorConfig`: how the terms of the loss are made and joined."""

    loss_agg_mode: str
    loss_agg_horizon: int | None
    entropy_coeff: float
    kl_loss_coef: float
    kl_loss_type: str

    @property
    def has_kl_loss(self) -> bool:
        """Whether a KL to the reference takes part in the loss."""
