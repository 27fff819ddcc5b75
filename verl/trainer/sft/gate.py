"""When supervised fine-tuning has reached what the next stage needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from verl.errors import UserError


@dataclass(frozen=True)
class GateReport:
    """``rates`` by name, and whether all of them suffice."""

    passed: bool
    rates: dict[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{name} {rate:.3f}" for name, rate in self.rates.items())


class Gate(Protocol):
    """Measures a model by what it samples."""

    def __call__(self, model: Any, tokenizer: Any) -> GateReport:
        """``model`` is a whole Hugging Face model on the CPU, in eval mode."""
        ...


class GateError(UserError):
    """The model did not pass; the message has the measured rates."""
