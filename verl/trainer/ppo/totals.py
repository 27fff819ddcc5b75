"""What a run will have used up at its end, from what it has used so far.

Guarantees: the framework only extrapolates; which metric is a running total, and how it is
written, the task says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from verl.forecast import RunningTotal

_WINDOW = 10  # observations that a rate is taken from
AT_END = "_at_end"


class Kind(StrEnum):
    """What trajectories are rolled out for: validation samples otherwise than training does."""

    TRAINING = "training"
    VALIDATION = "validation"


class Totals:
    """Follows running totals through a run.

    The trajectories still to come are taken to use what those of their kind did: in the last ten
    steps, since a policy that learns changes what it uses, and in the last validation. A kind that
    was not seen yet is taken to use what the other does. ``planned`` are the whole run's.
    """

    def __init__(self, totals: Sequence[RunningTotal], planned: Mapping[Kind, int]) -> None:
        self._totals = totals
        self._planned = planned
        self._done = dict.fromkeys(Kind, 0)
        self._value = {total.metric: 0.0 for total in totals}
        self._used = {total.metric: _observed() for total in totals}

    def observe(
        self, metrics: Mapping[str, float], trajectories: int, kind: Kind
    ) -> dict[str, float]:
        """``{metric}_at_end`` for each total in ``metrics``: those of a step or a validation which
        rolled so many trajectories out."""
        self._done[kind] += trajectories
        left = {other: max(0, self._planned[other] - self._done[other]) for other in Kind}
        estimates = {}
        for total in self._totals:
            if total.metric not in metrics:
                continue
            value, used = metrics[total.metric], self._used[total.metric]
            used[kind].append((trajectories, value - self._value[total.metric]))
            self._value[total.metric] = value
            at_end = value + sum(left[other] * _rate(used[other] or used[kind]) for other in Kind)
            if total.limit is not None:
                at_end = max(value, min(at_end, total.limit))
            estimates[total.metric + AT_END] = at_end
        return estimates

    def state_dict(self) -> dict[str, Any]:
        """What was observed."""
        used = {
            metric: {kind: list(observed) for kind, observed in by_kind.items()}
            for metric, by_kind in self._used.items()
        }
        return {"done": dict(self._done), "value": dict(self._value), "used": used}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what was observed; what is planned stays this run's."""
        self._done = {kind: state["done"][kind] for kind in Kind}
        for metric in self._value.keys() & state["value"].keys():
            self._value[metric] = state["value"][metric]
            for kind, observed in self._used[metric].items():
                observed.extend((count, used) for count, used in state["used"][metric][kind])

    def describe(self, metrics: Mapping[str, float]) -> list[str]:
        """Each total as ``title so far of about at the end``, from metrics with the estimates."""
        return [
            f"{total.title} {total.form(metrics[total.metric])} of about "
            f"{total.form(metrics[total.metric + AT_END])}"
            for total in self._totals
            if total.metric + AT_END in metrics
        ]


def _observed() -> dict[Kind, deque[tuple[int, float]]]:
    """Numbers of trajectories, and what they used."""
    return {Kind.TRAINING: deque(maxlen=_WINDOW), Kind.VALIDATION: deque(maxlen=1)}


def _rate(observed: deque[tuple[int, float]]) -> float:
    """Used per trajectory."""
    return sum(used for _, used in observed) / max(1, sum(count for count, _ in observed))
