"""Our router beside others: the baselines measured here, and what the paper published."""

from __future__ import annotations

from collections.abc import Sequence

from router_r1.evaluation.comparison.file import ComparisonFile, ComparisonRow
from router_r1.evaluation.published import SOURCE, PublishedRow, published_rows
from router_r1.evaluation.report.markup import ALPHA, DASH, TIMES, Markup, join, tag
from router_r1.evaluation.report.pareto import (
    frontier,
    kind_mark,
    legend,
    pareto_plot,
    per_thousand,
)
from verl.trainer.evaluation.summary import ALL, DatasetSummary


def comparison_section(comparison: ComparisonFile) -> Markup:
    """Plot, legend and tables of ``comparison.json``."""
    parts = [
        tag("p", comparison.title, class_="note"),
        tag("div", pareto_plot(comparison), class_="scroll"),
        legend(comparison.rows, bool(comparison.sweep)),
        tag("div", _baseline_table(comparison), class_="scroll"),
    ]
    if comparison.sweep:
        parts += [
            tag("h3", "The trained router by cost coefficient"),
            tag("div", _sweep_table(comparison), class_="scroll"),
        ]
    return join(*parts)


def _baseline_table(comparison: ComparisonFile) -> Markup:
    """All rows by EM; with several datasets a column of EM for each."""
    rows = comparison.rows
    sources = list(dict.fromkeys(source for row in rows for source in row.by_source))
    sources = sources if len(sources) > 1 else []
    efficient = {id(row) for row in frontier(comparison)}
    head = tag(
        "tr",
        *(tag("th", title, scope="col") for title in ("router", "EM", "95% interval")),
        *(tag("th", f"EM {source}", scope="col") for source in sources),
        *(tag("th", title, scope="col") for title in ("F1", "cost", "$ / 1000", "calls")),
    )
    body = [_baseline_row(row, sources, id(row) in efficient) for row in _by_em(rows)]
    note = tag(
        "caption",
        f"Cost: completion tokens {TIMES} $ per 1M. ◂ on the frontier of EM against dollars.",
    )
    return tag("table", note, tag("thead", head), tag("tbody", *body))


def _by_em(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    return sorted(rows, key=lambda row: -row.em)


def _baseline_row(row: ComparisonRow, sources: Sequence[str], efficient: bool) -> Markup:
    key = tag("svg", kind_mark(row.kind, 8, 8), viewBox="0 0 16 16", class_="key")
    known = row.em_low is not None and row.em_high is not None
    interval = f"{row.em_low:.3f} {DASH} {row.em_high:.3f}" if known else DASH
    by_source = [row.by_source.get(source, {}).get("em") for source in sources]
    return tag(
        "tr",
        tag("th", key, row.name, " ◂" if efficient else "", scope="row"),
        tag("td", f"{row.em:.3f}"),
        tag("td", interval, class_="dim"),
        *(tag("td", DASH if value is None else f"{value:.3f}") for value in by_source),
        tag("td", f"{row.f1:.3f}"),
        tag("td", f"{row.cost:.1f}"),
        tag("td", f"${per_thousand(row.dollars):.3g}"),
        tag("td", f"{row.calls:.2f}"),
        class_="ours" if row.kind == "router" else None,
    )


def _sweep_table(comparison: ComparisonFile) -> Markup:
    titles = (f"cost coefficient {ALPHA}", "EM", "cost", "$ / 1000", "calls")
    body = [
        tag(
            "tr",
            tag("th", f"{point.cost_coe:g}", scope="row"),
            tag("td", f"{point.em:.3f}"),
            tag("td", f"{point.cost:.1f}"),
            tag("td", f"${per_thousand(point.dollars):.3g}"),
            tag("td", f"{point.calls:.2f}"),
        )
        for point in sorted(comparison.sweep, key=lambda point: point.cost_coe)
    ]
    head = tag("tr", *(tag("th", title, scope="col") for title in titles))
    return tag("table", tag("thead", head), tag("tbody", *body))


def published_section(summaries: Sequence[DatasetSummary]) -> Markup | None:
    """Published EM and cost beside ours, for the benchmarks that both have; None without one."""
    ours = {s.data_source: s for s in summaries if s.data_source != ALL}
    rows = published_rows()
    shared = [source for source in ours if any(source in row.em for row in rows)]
    if not shared:
        return None
    priced = [source for source in shared if any(source in row.cost for row in rows)]
    head = tag(
        "tr",
        tag("th", "method", scope="col"),
        *(tag("th", f"EM {source}", scope="col") for source in shared),
        *(tag("th", f"cost {source}", scope="col") for source in priced),
    )
    own = tag(
        "tr",
        tag("th", "this evaluation", tag("span", "ours", class_="badge own"), scope="row"),
        *(tag("td", f"{ours[source].estimates['em'].mean:.3f}") for source in shared),
        *(tag("td", f"{ours[source].estimates['cost'].mean:.1f}") for source in priced),
        class_="ours",
    )
    others = [
        _published_row(row, shared, priced)
        for row in rows
        if any(source in row.em for source in shared)
    ]
    note = tag(
        "p",
        "Rows marked ",
        tag("span", "published", class_="badge"),
        f" are transcribed from the paper ({SOURCE}), not measured here. Policy, pool, prices and "
        "test questions may differ from this evaluation's.",
        class_="note",
    )
    return join(
        note,
        tag("div", tag("table", tag("thead", head), tag("tbody", own, *others)), class_="scroll"),
    )


def _published_row(row: PublishedRow, shared: Sequence[str], priced: Sequence[str]) -> Markup:
    em = [row.em.get(source) for source in shared]
    cost = [row.cost.get(source) for source in priced]
    return tag(
        "tr",
        tag("th", row.method, tag("span", "published", class_="badge"), scope="row"),
        *(tag("td", DASH if value is None else f"{value:.3f}") for value in em),
        *(tag("td", DASH if value is None else f"{value:.1f}") for value in cost),
        class_="published strong" if row.is_router_r1 else "published",
    )
