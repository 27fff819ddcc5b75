"""From a trajectory's raw cost, or the seconds of its calls, to a reward in [0, 1].

With r the square root of the cost and lo, hi the 5th and 95th percentile of the reference's roots:
``1 - clip((r - lo) / (hi - lo), 0, 1)``, and 0.5 where hi - lo < 1e-8. The reference are the last
trajectories of training, r included, or its first ones. Seconds take the place of the cost where
latency is rewarded.

Guarantees: a cost that is negative or not finite is refused with a ValueError.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# What the percentiles are taken over: the last trajectories, or the first ones.
COST_REFERENCES = ("window", "fixed")
# Which cost is rewarded: that of completion tokens alone, or of prompts as well.
COST_UNITS = ("completion", "dollars")
_LOW, _HIGH = 0.05, 0.95
_MIN_SPREAD = 1e-8


def cost_in(unit: str, cost: float, dollars: float) -> float:
    """The cost that is rewarded, in tokens x $ per 1M, which is millionths of a dollar.

    ``unit`` is one of :data:`COST_UNITS`; ``cost`` is completion tokens x $ per 1M, ``dollars``
    what prompts and completions cost together.
    """
    return dollars * 1e6 if unit == "dollars" else cost


@dataclass(frozen=True)
class CostScale:
    """Which costs are cheap and which are dear.

    Attributes:
        low, high: square roots of the cost (tokens x $ per 1M), or of the seconds, up to which a
            trajectory earns 1 and from which on it earns 0.
    """

    low: float
    high: float

    @classmethod
    def over(cls, roots: Iterable[float]) -> CostScale:
        """The percentiles of these square roots of costs; there must be one."""
        return cls.over_sorted(sorted(roots))

    @classmethod
    def over_sorted(cls, roots: Sequence[float]) -> CostScale:
        """Likewise, of roots in ascending order."""
        return cls(_quantile(roots, _LOW), _quantile(roots, _HIGH))

    def reward(self, cost: float) -> float:
        """Of a trajectory's cost: cheap is 1, dear is 0; 0.5 where low and high are alike."""
        root = root_of(cost)
        if self.high - self.low < _MIN_SPREAD:
            return 0.5
        return 1.0 - min(1.0, max(0.0, (root - self.low) / (self.high - self.low)))


@dataclass(frozen=True)
class RewardScales:
    """By which costs and seconds are rewarded from now on; None where that still moves."""

    cost: CostScale | None = None
    latency: CostScale | None = None


class CostNormalizer:
    """Rewards costs by a scale over the last ``window`` of them; where it is ``fixed``, the scale
    stays as it is once there are so many.

    Attributes:
        scale: that stays; None while it moves.
    """

    def __init__(self, window: int = 1000, fixed: bool = False) -> None:
        if window < 1:
            raise ValueError(f"window must be >= 1, got {window}")
        self._fixed = fixed
        self._roots: deque[float] = deque(maxlen=window)
        # The same, kept in order: to sort them for each cost took half of the reward's time.
        self._ascending: list[float] = []
        self.scale: CostScale | None = None

    def __call__(self, cost: float) -> float:
        """Adds one trajectory's cost (tokens x $ per 1M, or seconds), unless the scale stays, and
        returns its reward.
        """
        if self.scale is not None:
            return self.scale.reward(cost)
        root = root_of(cost)
        self._ascending = self._ascending_with(root)
        self._roots.append(root)
        reward = CostScale.over_sorted(self._ascending).reward(cost)
        self._fix_scale()
        return reward

    def peek(self, cost: float) -> float:
        """The same without moving the scale: for validation."""
        scale = self.scale or CostScale.over_sorted(self._ascending_with(root_of(cost)))
        return scale.reward(cost)

    def _ascending_with(self, root: float) -> list[float]:
        """The window's roots in ascending order once ``root`` is in it."""
        roots = self._ascending.copy()
        if len(roots) == self._roots.maxlen:
            del roots[bisect_left(roots, self._roots[0])]
        insort(roots, root)
        return roots

    def _fix_scale(self) -> None:
        if self._fixed and len(self._roots) == self._roots.maxlen:
            self.scale = CostScale.over_sorted(self._ascending)

    def state_dict(self) -> dict[str, Any]:
        """What the scale is taken over, for a checkpoint."""
        return {"roots": list(self._roots), "window": self._roots.maxlen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self._roots = deque(state["roots"], maxlen=state["window"])
        self._ascending = sorted(self._roots)
        self.scale = None
        self._fix_scale()


def _quantile(ascending: Sequence[float], share: float) -> float:
    """Between neighbours in proportion, to the bit as ``numpy.percentile`` has it."""
    position = (len(ascending) - 1) * share
    below = math.floor(position)
    part = position - below
    low, high = ascending[below], ascending[min(below + 1, len(ascending) - 1)]
    step = high - low
    return low + step * part if part < 0.5 else high - step * (1 - part)


def root_of(cost: float) -> float:
    """What a scale is taken over: the square root of a cost or of seconds."""
    if not (math.isfinite(cost) and cost >= 0):
        raise ValueError(f"a trajectory's cost or latency must be finite and >= 0, got {cost}")
    return math.sqrt(cost)
