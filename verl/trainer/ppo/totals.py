"""What a run will have used up at its end, from what it has used so far.

Guarantees: the framework only extrapolates; which metric is a running total, and how it is
written, the task says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_WINDOW = 10
AT_END = "_at_end"


@dataclass(frozen=True)
class RunningTotal:
    """A metric that grows with every trajectory, validation's as well.

    Attributes:
        metric: its name among the task's metrics; the estimate is logged as ``{metric}_at_end``.
        title: of the pair on the progress line.
        form: writes an amount.
        limit: that the run stops at; None for none.
    """

    metric: str
    title: str
    form: Callable[[float], str]
    limit: float | None = None


class Totals:
    """Follows running totals through a run.

    The trajectories still to come are taken to use what those of the last 10 observations did,
    since a policy that learns changes what it uses.

    Args:
        totals: of the task.
        planned: trajectories of the whole run, validation's included.
    """

    def __init__(self, totals: Sequence[RunningTotal], planned: int) -> None:
        self._totals = totals
        self._planned = planned
        self._done = 0
        self._seen: dict[str, deque[tuple[int, float]]] = {
            total.metric: deque([(0, 0.0)], maxlen=_WINDOW + 1) for total in totals
        }

    def observe(self, metrics: Mapping[str, float], trajectories: int) -> dict[str, float]:
        """``{metric}_at_end`` for each total in ``metrics``.

        Args:
            metrics: of a step or a validation, with the totals so far.
            trajectories: that it rolled out.
        """
        self._done += trajectories
        estimates = {}
        for total in self._totals:
            if total.metric not in metrics:
                continue
            value, seen = metrics[total.metric], self._seen[total.metric]
            seen.append((self._done, value))
            (first_done, first_value), more = seen[0], max(0, self._planned - self._done)
            rate = (value - first_value) / max(1, self._done - first_done)
            at_end = value + rate * more
            if total.limit is not None:
                at_end = max(value, min(at_end, total.limit))
            estimates[total.metric + AT_END] = at_end
        return estimates

    def describe(self, metrics: Mapping[str, float]) -> list[str]:
        """Each total as ``title so far of about at the end``, from metrics with the estimates."""
        return [
            f"{total.title} {total.form(metrics[total.metric])} of about "
            f"{total.form(metrics[total.metric + AT_END])}"
            for total in self._totals
            if total.metric + AT_END in metrics
        ]
