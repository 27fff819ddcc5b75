"""The rows of a comparison and the file that holds them.

Guarantees: a row's mean over all datasets is unweighted, as in ``results.json``; a row that was
computed instead of measured has no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from router_r1.evaluation.comparison.file import (
    ComparisonFile,
    ComparisonPoint,
    ComparisonRow,
    write_comparison_file,
)
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.evaluation.summary import DatasetSummary, Estimate, summarise


@dataclass(frozen=True)
class Cell:
    """Means per question.

    Attributes:
        em, f1: in [0, 1].
        cost: completion tokens x $ per 1M.
        dollars: true $.
        calls: answered calls.
        em_low, em_high: 95% interval of ``em``; None where nothing was sampled.
    """

    em: float
    f1: float
    cost: float
    dollars: float
    calls: float
    em_low: float | None = None
    em_high: float | None = None


@dataclass(frozen=True)
class Row:
    """One contestant; ``kind`` is one of :data:`router_r1.evaluation.baselines.contest.KINDS`."""

    name: str
    kind: str
    total: Cell
    by_source: dict[str, Cell]


@dataclass(frozen=True)
class SweepPoint:
    """The router trained with ``cost_coe``.

    Attributes:
        cost_coe: the weight of cost in its reward.
        total: its means.
        cost_change: in cost per question, against the point before it in the sweep.
    """

    cost_coe: float
    total: Cell
    cost_change: Estimate | None = None


@dataclass(frozen=True)
class Comparison:
    """Everything that the table, the plot and the file show."""

    title: str
    rows: list[Row]
    sweep: list[SweepPoint]


def measured_row(name: str, kind: str, records: Sequence[EvaluationRecord]) -> Row:
    """From scored records."""
    *sources, total = summarise(records)
    return Row(name, kind, _cell(total), {s.data_source: _cell(s) for s in sources})


def _cell(summary: DatasetSummary) -> Cell:
    means = {name: estimate.mean for name, estimate in summary.estimates.items()}
    em = summary.estimates["em"]
    return Cell(
        em.mean, means["f1"], means["cost"], means["dollars"], means["route_cnt"], em.low, em.high
    )


def computed_row(name: str, kind: str, by_source: dict[str, Cell]) -> Row:
    """From expectations per dataset."""
    cells = list(by_source.values())

    def mean(column: str) -> float:
        return float(sum(getattr(cell, column) for cell in cells) / len(cells))

    total = Cell(mean("em"), mean("f1"), mean("cost"), mean("dollars"), mean("calls"))
    return Row(name, kind, total, by_source)


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Writes ``comparison.json``, whole or not at all."""
    means = ("em", "f1", "cost", "dollars", "calls")
    rows = [
        ComparisonRow(
            name=row.name,
            kind=row.kind,
            **asdict(row.total),
            by_source={source: _fields(cell, means) for source, cell in row.by_source.items()},
        )
        for row in comparison.rows
    ]
    sweep = [_saved_point(point) for point in comparison.sweep]
    write_comparison_file(path, ComparisonFile(comparison.title, rows, sweep))


def _saved_point(point: SweepPoint) -> ComparisonPoint:
    means = _fields(point.total, ("em", "cost", "dollars", "calls"))
    if point.cost_change is None:
        return ComparisonPoint(point.cost_coe, **means)
    change = point.cost_change
    return ComparisonPoint(
        point.cost_coe,
        **means,
        cost_change=change.mean,
        cost_change_low=change.low,
        cost_change_high=change.high,
    )


def _fields(cell: Cell, names: Sequence[str]) -> dict[str, float]:
    return {name: getattr(cell, name) for name in names}
