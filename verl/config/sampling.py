"""How tokens are drawn: one shape for training, validation, asking, serving and the engines."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from verl.config.validation import ConfigError


@dataclass
class Sampling:
    """The distribution that tokens are drawn from.

    Attributes:
        temperature: 0.0 is greedy.
        top_p: nucleus; 1.0 samples the full distribution (what the trainer scores).
        top_k: -1 switches it off.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1

    def __post_init__(self) -> None:
        require_sampling(self.temperature, self.top_p)

    def as_keywords(self) -> dict[str, Any]:
        """The attributes above by name, without those that a subclass adds."""
        return {field.name: getattr(self, field.name) for field in fields(Sampling)}


def require_sampling(temperature: float, top_p: float, prefix: str = "") -> None:
    """Raises :class:`ConfigError` for values out of range; ``prefix`` goes before their names."""
    if temperature < 0:
        raise ConfigError(f"{prefix}temperature must be >= 0, got {temperature}")
    if not 0 < top_p <= 1:
        raise ConfigError(f"{prefix}top_p must be in (0, 1], got {top_p}")
