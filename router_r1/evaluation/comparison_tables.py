"""The tables of a comparison: routers beside each other, what they gain, what a sweep changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from router_r1.evaluation.charts import pareto_front, place_of
from router_r1.evaluation.comparison import KINDS, Comparison, Means, SweepPoint
from router_r1.evaluation.frontier import CPT_SHARES, Point, trade_offs
from router_r1.evaluation.tables import DASH, MINUS, TIMES, Cell, Line, Table, or_dash


class _Column(NamedTuple):
    """A figure of a router; a table in which no router has it leaves it out."""

    title: str
    explanation: str
    show: Callable[[Means], Cell | None]


def _figure(form: str, value: float | None, small: str = "") -> Cell | None:
    return None if value is None else Cell(form.format(value), small)


def _quality(means: Means) -> Cell:
    low, high = means.em_low, means.em_high
    interval = "" if low is None or high is None else f"{low:.3f}{DASH}{high:.3f}"
    return Cell(f"{means.em:.3f}", interval)


def _seconds(means: Means) -> Cell | None:
    slow = means.latency_p95_s
    return _figure("{:.3g}", means.latency_s, "" if slow is None else f"95%: {slow:.3g}")


def _columns(quality: str) -> list[_Column]:
    gap = f"OracleGap: 1 {MINUS} {quality} / that of the oracle of one LLM"
    return [
        _Column(quality, "with the 95% interval of what was measured", _quality),
        _Column("F1", "token overlap", lambda m: _figure("{:.3f}", m.f1)),
        _Column("cost", f"completion tokens {TIMES} $ per 1M", lambda m: _figure("{:.2f}", m.cost)),
        _Column(
            "$ / 1000", "dollars for 1000 questions", lambda m: Cell(f"{m.dollars * 1000:.4f}")
        ),
        _Column("calls", "answered calls per question", lambda m: Cell(f"{m.calls:.2f}")),
        _Column("seconds", "that a question waits for its calls", _seconds),
        _Column("gap", gap, lambda m: _figure("{:.1%}", m.oracle_gap)),
    ]


def comparison_tables(comparison: Comparison) -> list[Table]:
    """One for all datasets with the sweep, one of what routers gain by trading cost for quality,
    one of what the sweep changes, one for each dataset."""
    rows = sorted(comparison.rows, key=lambda r: (list(KINDS).index(r.kind), r.total.em))
    whole = [(row.name, row.kind, row.total) for row in rows]
    whole += [(f"router at cost_coe {p.cost_coe:g}", "router", p.total) for p in comparison.sweep]
    best = pareto_front(comparison)
    columns = _columns(comparison.quality)
    tables = [_means_table(f"{comparison.title}: all datasets", columns, whole, best)]
    tables += _trade_off_tables(comparison)
    if len(comparison.sweep) > 1:
        tables.append(_changes_table(comparison.sweep))
    sources = dict.fromkeys(source for row in comparison.rows for source in row.by_source)
    for source in sources if len(sources) > 1 else ():
        there = [row for row in rows if source in row.by_source]
        means = [(row.name, row.kind, row.by_source[source]) for row in there]
        tables.append(_means_table(source, columns, means))
    return tables


def _means_table(
    title: str,
    columns: Sequence[_Column],
    rows: Sequence[tuple[str, str, Means]],
    best: Sequence[tuple[float, float]] = (),
) -> Table:
    """``best`` are places of the Pareto front."""
    shown = [column for column in columns if any(column.show(means) for _, _, means in rows)]
    lines = []
    for name, kind, means in rows:
        cells: list[str | Cell] = [kind, *(show(means) or DASH for _, _, show in shown)]
        is_best = kind != "oracle" and means.em_low is not None and place_of(means) in best
        style, mark = "ours" if kind == "router" else "", f"kind-{kind}"
        lines.append(Line(name + " ◂" * is_best, cells, style, mark=mark, kind=kind))
    titles = {title: explanation for title, explanation, _ in shown}
    notes = {
        "cost": f" Cost: completion tokens {TIMES} $ per 1M.",
        "seconds": " Seconds: waited for calls, and the 95th percentile.",
        "gap": f" Gap: 1 {MINUS} {columns[0].title} / that of the oracle of one LLM.",
    }
    note = "Small: 95% interval of what was measured."
    note += "".join(text for title, text in notes.items() if title in titles)
    note += " ◂: nothing is better for fewer dollars." if best else ""
    return Table(title, {"router": "", "kind": ""} | titles, lines, note)


def _trade_off_tables(comparison: Comparison) -> list[Table]:
    """One of :mod:`router_r1.evaluation.frontier`'s measures, in dollars; none without single LLMs
    that cost something."""
    measured = [(row, _point(row.total)) for row in comparison.rows if row.total.em_low is not None]
    singles = [point for row, point in measured if row.kind == "single"]
    if not any(point.cost for point in singles):
        return []
    routers = [
        ("single LLMs, mixed", singles),
        *((row.name, [point]) for row, point in measured if row.kind not in ("single", "oracle")),
        ("routers of the sweep", [_point(point.total) for point in comparison.sweep]),
        ("oracles", [point for row, point in measured if row.kind == "oracle"]),
    ]
    names, settings = zip(*((name, points) for name, points in routers if points), strict=True)
    lines = []
    for name, m in zip(names, trade_offs(settings, singles), strict=True):
        shares = [or_dash(share, "{:.0%}".format) for share in (m.cost_save, *m.cpt)]
        lines.append(Line(name, [f"{m.aiq:.3f}", *shares, f"{m.distance:.3f}"]))
    quality = comparison.quality
    explained = {
        "router": "",
        "AIQ": f"mean {quality} over the costs from 0 to the dearest",
        "saved": f"of the best single LLM's dollars, at its {quality}",
        **{f"CPT({share:.0%})": f"dollars for {share:.0%} of its gain" for share in CPT_SHARES},
        "below": f"{quality} below the frontier of all that is compared, at the same dollars",
    }
    note = f"AIQ: mean {quality} over the dollars from 0 to the dearest. Saved: of the best single "
    note += f"LLM's dollars, at its {quality}. CPT(x): share of its dollars that brings x of its "
    note += f"gain over the worst LLM. Below: {quality} below the frontier of all that is compared."
    return [Table(f"What trading cost for {quality} gains", explained, lines, note)]


def _point(means: Means) -> Point:
    return Point(means.dollars, means.em)


def _changes_table(sweep: Sequence[SweepPoint]) -> Table:
    titles = ("cost_coe", "cost per question", "95% interval, paired", "EM")
    lines = []
    for before, after in pairwise(sweep):
        if (change := after.cost_change) is not None:
            interval = f"{change.low:+.3f} to {change.high:+.3f}"
            cells = [f"{change.mean:+.3f}", interval, f"{after.total.em - before.total.em:+.3f}"]
            lines.append(Line(f"{before.cost_coe:g} to {after.cost_coe:g}", cells))
    return Table("What weighing cost more changes", dict.fromkeys(titles, ""), lines)
