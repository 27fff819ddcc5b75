"""Ends a run whose updates are no longer made.

Guarantees: an update with a non-finite gradient is left out by the worker and counted in the metric
``<model>/nonfinite_steps`` (share of a step's updates); after so many steps in a row with such an
update the run ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from verl.errors import UserError


class NonFiniteUpdatesError(UserError):
    """Training goes on in vain."""


class NonFiniteGuard:
    """Counts steps.

    Args:
        limit: of steps in a row; None for none.
        metrics: names of the metrics that count updates left out.
        look_at: what the user should look at beside the learning rate.
    """

    def __init__(self, limit: int | None, metrics: Sequence[str], look_at: str) -> None:
        self._limit = limit
        self._metrics = metrics
        self._look_at = look_at
        self._in_a_row = 0

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of a step; one without an update counts neither way."""
        if any(name in metrics for name in self._metrics):
            skipped = any(metrics.get(name, 0.0) > 0 for name in self._metrics)
            self._in_a_row = self._in_a_row + 1 if skipped else 0

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
