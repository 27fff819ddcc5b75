"""From a trajectory's raw cost to a reward in [0, 1].

With r the square root of the cost and lo, hi the 5th and 95th percentile of the last ones, r
included: ``1 - clip((r - lo) / (hi - lo), 0, 1)``, and 0.5 where hi - lo < 1e-8.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

_PERCENTILES = (5, 95)
_MIN_SPREAD = 1e-8


class CostNormalizer:
    """Where a cost's square root lies between the percentiles of the last ``window`` ones.

    Cheap is 1, dear is 0; 0.5 while all costs seen are alike.
    """

    def __init__(self, window: int = 1000) -> None:
        if window < 1:
            raise ValueError(f"window must be >= 1, got {window}")
        self._roots: deque[float] = deque(maxlen=window)

    def __call__(self, cost: float) -> float:
        """Adds one trajectory's cost (tokens x $ per 1M) to the window and returns its reward.

        Raises:
            ValueError: if the cost is negative or not finite.
        """
        self._roots.append(_root(cost))
        return self._place(self._roots[-1], np.fromiter(self._roots, dtype=np.float64))

    def peek(self, cost: float) -> float:
        """The same without moving the window: for validation."""
        root = _root(cost)
        seen = list(self._roots)[-(self._roots.maxlen or 1) + 1 :] if self._roots else []
        return self._place(root, np.array([*seen, root], dtype=np.float64))

    @staticmethod
    def _place(root: float, roots: np.ndarray) -> float:
        low, high = np.percentile(roots, _PERCENTILES)
        if high - low < _MIN_SPREAD:
            return 0.5
        return 1.0 - min(1.0, max(0.0, (root - float(low)) / float(high - low)))

    def state_dict(self) -> dict[str, Any]:
        """The window, for a checkpoint."""
        return {"roots": list(self._roots), "window": self._roots.maxlen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self._roots = deque(state["roots"], maxlen=state["window"])


def _root(cost: float) -> float:
    if not (math.isfinite(cost) and cost >= 0):
        raise ValueError(f"a trajectory's cost must be finite and >= 0, got {cost}")
    return math.sqrt(cost)
