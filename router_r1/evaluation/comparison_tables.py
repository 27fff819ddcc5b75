"""The tables of a comparison: routers beside each other, what they gain, what a sweep changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from router_r1.evaluation.charts import pareto_front, place_of
from router_r1.evaluation.comparison import KINDS, Comparison, Means, SweepPoint
from router_r1.evaluation.frontier import CPT_SHARES, Point, trade_offs
from router_r1.evaluation.tables import DASH, TIMES, Cell, Line, Table, or_dash


def comparison_tables(comparison: Comparison) -> list[Table]:
    """One for all datasets with the sweep, one of what routers gain by trading cost for EM, one of
    what the sweep changes, one for each dataset.
    """
    rows = sorted(comparison.rows, key=lambda r: (list(KINDS).index(r.kind), r.total.em))
    whole = [(row.name, row.kind, row.total) for row in rows]
    whole += [(f"router at cost_coe {p.cost_coe:g}", "router", p.total) for p in comparison.sweep]
    best = pareto_front(comparison)
    tables = [_means_table(f"{comparison.title}: all datasets", whole, best)]
    tables += _trade_off_tables(comparison)
    if len(comparison.sweep) > 1:
        tables.append(_changes_table(comparison.sweep))
    sources = dict.fromkeys(source for row in comparison.rows for source in row.by_source)
    for source in sources if len(sources) > 1 else ():
        there = [row for row in rows if source in row.by_source]
        means = [(row.name, row.kind, row.by_source[source]) for row in there]
        tables.append(_means_table(source, means))
    return tables


def _means_table(
    title: str,
    rows: Sequence[tuple[str, str, Means]],
    best: Sequence[tuple[float, float]] = (),
) -> Table:
    lines = []
    for name, kind, m in rows:
        measured = m.em_low is not None and m.em_high is not None
        cells: list[str | Cell] = [
            kind,
            Cell(f"{m.em:.3f}", f"{m.em_low:.3f}{DASH}{m.em_high:.3f}" if measured else ""),
            or_dash(m.f1, "{:.3f}".format),
            f"{m.cost:.2f}",
            f"{m.dollars * 1000:.4f}",
            f"{m.calls:.2f}",
        ]
        is_best = kind != "oracle" and measured and place_of(m) in best
        style, mark = "ours" if kind == "router" else "", f"kind-{kind}"
        lines.append(Line(name + " ◂" * is_best, cells, style, mark=mark, kind=kind))
    note = f"Small: 95% interval of what was measured. Cost: completion tokens {TIMES} $ per 1M."
    note += " ◂: nothing is better for fewer dollars." if best else ""
    titles = ("router", "kind", "EM", "F1", "cost", "$ / 1000", "calls")
    return Table(title, dict.fromkeys(titles, ""), lines, note)


def _trade_off_tables(comparison: Comparison) -> list[Table]:
    """One of :mod:`router_r1.evaluation.frontier`'s measures, in dollars; none without single LLMs
    that cost something.
    """
    measured = [row for row in comparison.rows if row.total.em_low is not None]
    singles = [_point(row.total) for row in measured if row.kind == "single"]
    if not any(point.cost for point in singles):
        return []
    routers = [("single LLMs, mixed", singles)]
    routers += [
        (row.name, [_point(row.total)]) for row in measured if row.kind not in ("single", "oracle")
    ]
    routers.append(("routers of the sweep", [_point(p.total) for p in comparison.sweep]))
    routers.append(("oracles", [_point(row.total) for row in measured if row.kind == "oracle"]))
    routers = [(name, points) for name, points in routers if points]
    lines = [
        Line(
            name,
            [
                f"{m.aiq:.3f}",
                *(or_dash(share, "{:.0%}".format) for share in (m.cost_save, *m.cpt)),
                f"{m.distance:.3f}",
            ],
        )
        for (name, _), m in zip(
            routers, trade_offs([points for _, points in routers], singles), strict=True
        )
    ]
    explained = {
        "router": "",
        "AIQ": "mean EM over the costs from 0 to the dearest",
        "saved": "of the best single LLM's dollars, at its EM",
        **{f"CPT({share:.0%})": f"dollars for {share:.0%} of its gain" for share in CPT_SHARES},
        "below": "EM below the frontier of all that is compared, at the same dollars",
    }
    note = "AIQ: mean EM over the dollars from 0 to the dearest. Saved: of the best single LLM's "
    note += "dollars, at its EM. CPT(x): share of its dollars that brings x of its gain over the "
    note += "worst LLM. Below: EM below the frontier of all that is compared."
    return [Table("What trading cost for EM gains", explained, lines, note)]


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
