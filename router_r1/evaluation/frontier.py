"""What a router gains by trading cost for quality, in the measures of the routing literature.

A router is a set of points, one for each setting of it: what a question costs, and the share that
is answered right. Its *curve* says what it reaches for a given cost when each question may also go
to one of two settings by lot: the non-decreasing upper hull of its points.

Guarantees: a measure that a curve does not reach is None, never extrapolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

CPT_SHARES = (0.5, 0.8, 0.95)


class Point(NamedTuple):
    """One setting of a router: ``cost`` a question, in any unit, and ``quality`` in [0, 1]."""

    cost: float
    quality: float


class Curve:
    """The non-decreasing upper hull of a router's points, of which there must be one."""

    def __init__(self, points: Iterable[Point]) -> None:
        corners: list[Point] = []
        for point in sorted(points, key=lambda p: (p.cost, -p.quality)):
            if not corners or point.quality > corners[-1].quality:
                while len(corners) > 1 and _slope(corners[-2], point) >= _slope(*corners[-2:]):
                    corners.pop()
                corners.append(point)
        self.corners = corners  # cheapest first; costs and qualities rise strictly

    def at(self, cost: float) -> float | None:
        """The quality reached for ``cost``; None below the cheapest point."""
        costs, qualities = zip(*self.corners, strict=True)
        return None if cost < costs[0] else float(np.interp(cost, costs, qualities))

    def cost_of(self, quality: float) -> float | None:
        """The least cost at which ``quality`` is reached; None if it is not."""
        costs, qualities = zip(*self.corners, strict=True)
        return None if quality > qualities[-1] else float(np.interp(quality, qualities, costs))

    def mean_quality(self, dearest: float) -> float:
        """AIQ, the average improvement in quality of RouterBench (Hu et al. 2024, arXiv
        2403.12031): the mean of the curve over the costs from 0 to ``dearest``, which all routers
        compared share. As in RouterBench's code the curve is 0 below its cheapest point and goes on
        level beyond its dearest.

        Raises:
            ValueError: if the curve goes beyond ``dearest``.
        """
        last = self.corners[-1]
        if dearest < last.cost or dearest <= 0:
            raise ValueError(f"dearest is {dearest}, but the curve ends at cost {last.cost}")
        costs, qualities = zip(*self.corners, Point(dearest, last.quality), strict=True)
        return float(np.trapezoid(qualities, costs)) / dearest


def _slope(a: Point, b: Point) -> float:
    return (b.quality - a.quality) / (b.cost - a.cost)


@dataclass(frozen=True)
class TradeOff:
    """One router's measures.

    Attributes:
        aiq: :meth:`Curve.mean_quality`.
        cost_save: share of the best single LLM's cost that is saved at its quality (CostSave of
            LLMRouterBench, Li et al. 2026, arXiv 2601.07206); below 0 if it costs more.
        cpt: for each of :data:`CPT_SHARES`, the share of the strong LLM's cost at which that share
            of its gain over the weak one is had. RouteLLM (Ong et al. 2024, arXiv 2406.18665) has
            two LLMs and counts calls of the strong one; here strong is the best single LLM and weak
            the worst, and costs are counted, since there are others between them.
        distance: mean over the router's points of how far their quality lies below the curve of
            all that is compared at the same cost (in the place of LLMRouterBench's ParetoDist).
    """

    aiq: float
    cost_save: float | None
    cpt: tuple[float | None, ...]
    distance: float


def trade_offs(routers: Sequence[Sequence[Point]], singles: Sequence[Point]) -> list[TradeOff]:
    """Of each router, told by the points of its settings; ``singles`` are the LLMs asked alone. At
    least one point each."""
    everything = [*singles, *(point for points in routers for point in points)]
    dearest, whole = max(point.cost for point in everything), Curve(everything)
    strong = max(singles, key=lambda p: (p.quality, -p.cost))
    weak = min(singles, key=lambda p: (p.quality, p.cost))
    gain = strong.quality - weak.quality

    def share_of_strong(curve: Curve, quality: float) -> float | None:
        cost = curve.cost_of(quality)
        return None if cost is None or strong.cost <= 0 else cost / strong.cost

    measures = []
    for points in routers:
        curve = Curve(points)
        equal = share_of_strong(curve, strong.quality)
        wanted = [weak.quality + share * gain for share in CPT_SHARES]
        below = [max(0.0, (whole.at(p.cost) or 0.0) - p.quality) for p in points]
        measures.append(
            TradeOff(
                aiq=curve.mean_quality(dearest),
                cost_save=None if equal is None else 1.0 - equal,
                cpt=tuple(share_of_strong(curve, q) if gain > 0 else None for q in wanted),
                distance=float(np.mean(below)),
            )
        )
    return measures
