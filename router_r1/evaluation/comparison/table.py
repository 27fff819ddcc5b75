"""The comparison on the terminal: a table for all datasets together, and one for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.table import Table

from router_r1.evaluation.baselines.contest import KINDS
from router_r1.evaluation.comparison.rows import Cell, Comparison, Row, SweepPoint

_STYLES = {"router": "bold green", "prompt": "cyan", "oracle": "yellow", "learned": "blue"}


def in_order(rows: Sequence[Row]) -> list[Row]:
    """By kind, and within a kind from the least EM to the greatest."""
    return sorted(rows, key=lambda row: (KINDS.index(row.kind), row.total.em))


def tables(comparison: Comparison) -> Iterator[Table]:
    """One for all datasets with the sweep, one of what the sweep changes, one for each dataset."""
    rows = in_order(comparison.rows)
    sources = list(dict.fromkeys(source for row in rows for source in row.by_source))
    whole = _table(f"{comparison.title}: all datasets")
    _fill(whole, [(row, row.total) for row in rows])
    if comparison.sweep:
        whole.add_section()
        for point in comparison.sweep:
            name = f"router at cost_coe {point.cost_coe:g}"
            whole.add_row(name, "router", *_cells(point.total), style=_STYLES["router"])
    yield whole
    if len(comparison.sweep) > 1:
        yield _changes(comparison.sweep)
    if len(sources) > 1:
        for source in sources:
            table = _table(source)
            _fill(table, [(row, row.by_source[source]) for row in rows if source in row.by_source])
            yield table


def _changes(sweep: Sequence[SweepPoint]) -> Table:
    table = Table(title="What weighing cost more changes", title_justify="left")
    for column in ("cost_coe", "cost per question", "95% interval, paired", "EM"):
        table.add_column(column, justify="right")
    for before, after in pairwise(sweep):
        if after.cost_change is not None:
            change = after.cost_change
            table.add_row(
                f"{before.cost_coe:g} to {after.cost_coe:g}",
                f"{change.mean:+.3f}",
                f"{change.low:+.3f} to {change.high:+.3f}",
                f"{after.total.em - before.total.em:+.3f}",
            )
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("router")
    table.add_column("kind")
    for column in ("EM", "95% interval", "F1", "cost", "$ / 1k questions", "calls"):
        table.add_column(column, justify="right")
    return table


def _fill(table: Table, rows: Sequence[tuple[Row, Cell]]) -> None:
    last = rows[0][0].kind if rows else ""
    for row, cell in rows:
        if row.kind != last:
            table.add_section()
            last = row.kind
        table.add_row(row.name, row.kind, *_cells(cell), style=_STYLES.get(row.kind, ""))


def _cells(cell: Cell) -> tuple[str, ...]:
    known = cell.em_low is not None and cell.em_high is not None
    return (
        f"{cell.em:.3f}",
        f"{cell.em_low:.3f} to {cell.em_high:.3f}" if known else "computed",
        f"{cell.f1:.3f}",
        f"{cell.cost:.2f}",
        f"{cell.dollars * 1000:.4f}",
        f"{cell.calls:.2f}",
    )
