"""Ends a run whose updates are no longer made.

Guarantees: an update with a non-finite gradient is left out by the worker and counted in the metric
``<group>/nonfinite_steps`` (share of a step's updates); after so many steps in a row with such an
update the run ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl.errors import UserError

_COUNTS = "/nonfinite_steps"


class NonFiniteUpdatesError(UserError):
    """Training goes on in vain."""


class NonFiniteGuard:
    """Counts steps up to ``limit`` in a row, None for none; ``look_at`` is what the user should
    look at beside the learning rate."""

    def __init__(self, limit: int | None, look_at: str) -> None:
        self._limit, self._look_at = limit, look_at
        self._in_a_row = 0

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of a step; one without an update counts neither way."""
        shares = [value for name, value in metrics.items() if name.endswith(_COUNTS)]
        if shares:
            self._in_a_row = self._in_a_row + 1 if any(shares) else 0

    def check(self) -> None:
        """Raises :class:`NonFiniteUpdatesError` at the limit."""
        if self._limit is not None and self._in_a_row >= self._limit:
            raise NonFiniteUpdatesError(
                f"{self._in_a_row} training steps in a row had a loss or gradient that is not "
                "finite, so updates were left out; lower the learning rate, look at "
                f"{self._look_at} (the limit is trainer.max_nonfinite_steps={self._limit})"
            )

    def state_dict(self) -> dict[str, Any]:
        """The count."""
        return {"in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the count over."""
        self._in_a_row = state["in_a_row"]
