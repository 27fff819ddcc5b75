"""Comparisons made up for tests."""

from __future__ import annotations

from router_r1.evaluation.comparison import Comparison, Means, Row, SweepPoint
from verl.trainer.evaluation.summary import Estimate


def toy_row(name: str, kind: str, em: float, dollars: float, low: float | None = 0.1) -> Row:
    """A row with one dataset; ``low`` is the lower end of EM's interval, None if computed."""
    total = Means(em, em, dollars * 1e6, dollars, 1.0, low, None if low is None else 0.9)
    return Row(name, kind, total, {"toy": Means(em, em, dollars * 1e6, dollars, 1.0)})


def toy_comparison() -> Comparison:
    """Rows of several kinds, two of them at one place, and a sweep of two points."""
    rows = [
        toy_row("Small", "single", 0.2, 1e-6),
        toy_row("cheapest (Small)", "single", 0.2, 1e-6),
        toy_row("kNN", "learned", 0.5, 5e-5),
        toy_row("slow", "fusion", 0.4, 9e-5),
        toy_row("trained", "router", 0.9, 9e-5),
        toy_row("oracle", "oracle", 1.0, 8e-5),
        toy_row("oracle (expected)", "oracle", 1.0, 8e-5, low=None),
    ]
    frugal = toy_row("", "", 0.8, 2e-5).total
    sweep = [SweepPoint(0.0, rows[4].total), SweepPoint(0.9, frugal, Estimate(-3.0, -4.0, -2.0))]
    return Comparison("Toy", rows, sweep)
