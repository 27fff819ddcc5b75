"""How tokens are drawn: one shape for training, validation, asking, serving and the engines."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from verl.config.validation import NOT_NEGATIVE, SHARE_ABOVE_0, Section


@dataclass
class Sampling(Section):
    """The distribution that tokens are drawn from.

    Attributes:
        temperature: 0.0 is greedy.
        top_p: nucleus; 1.0 samples the full distribution (what the trainer scores).
        top_k: -1 switches it off.
    """

    temperature: float = field(default=1.0, metadata=NOT_NEGATIVE)
    top_p: float = field(default=1.0, metadata=SHARE_ABOVE_0)
    top_k: int = -1

    def as_keywords(self) -> dict[str, Any]:
        """The attributes above by name, without those that a subclass adds."""
        return {own.name: getattr(self, own.name) for own in fields(Sampling)}
