"""The Pareto plot: EM against dollars of every router compared, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from router_r1.evaluation.comparison.file import ComparisonFile, ComparisonPoint, ComparisonRow
from router_r1.evaluation.comparison.labels import Box, Coordinates, place_labels
from router_r1.evaluation.report.axes import Axis, cost_axis, draw_axes, linear_axis
from router_r1.evaluation.report.markup import ALPHA, Markup, join, tag

KIND_LABELS = {
    "random": "random",
    "single": "one LLM for every call",
    "prompt": "prompt only, untrained",
    "learned": "learned single-shot router",
    "fusion": "fusion of several LLMs",
    "retrieval": "retrieval in the loop",
    "router": "trained router",
    "oracle": "oracle",
}
_WIDTH, _HEIGHT = 860.0, 470.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 840.0, 40.0, 415.0
_CHARACTER, _LINE = 6.3, 14.0  # pixels of a character and of a line
_BASELINE = 3.0  # pixels of a line below its baseline
_LEADER_FROM = 14.0  # a name farther off than so many pixels is tied to its point


def per_thousand(dollars: float) -> float:
    """Dollars of a thousand questions."""
    return 1000.0 * dollars


def pareto_plot(comparison: ComparisonFile) -> Markup:
    """Points with intervals and names, the sweep as a line, the frontier dashed."""
    rows, sweep = comparison.rows, comparison.sweep
    values = [*((row.dollars, row.em) for row in rows), *((p.dollars, p.em) for p in sweep)]
    bounds = [v for row in rows for v in (row.em_low, row.em_high) if v is not None]
    x = cost_axis([per_thousand(dollars) for dollars, _ in values], _LEFT, _RIGHT)
    y = linear_axis([*(em for _, em in values), *bounds], _BOTTOM, _TOP, from_zero=True)
    pixels = [(x(per_thousand(dollars)), y(em)) for dollars, em in values]
    points, swept = pixels[: len(rows)], pixels[len(rows) :]
    drawn = [
        draw_axes(
            x,
            y,
            "dollars per 1000 questions" + (" (logarithmic)" if x.log else ""),
            "EM",
            "${:g}".format,
        ),
        _frontier(comparison, x, y),
        _sweep_line(swept),
        *(_interval(row, px, y) for row, (px, _) in zip(rows, points, strict=True)),
        *(_marker(row, *point) for row, point in zip(rows, points, strict=True)),
        *_names(comparison, points, swept),
    ]
    return tag(
        "svg",
        *drawn,
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        class_="chart pareto",
        role="img",
        aria_label="EM against dollars of every router",
    )


def _names(
    comparison: ComparisonFile,
    points: Sequence[Coordinates],
    swept: Sequence[Coordinates],
) -> list[Markup]:
    """Names of the rows and coefficients of the sweep, beside their points."""
    texts = [(row.name, row.kind) for row in comparison.rows]
    texts += [(f"{ALPHA} {point.cost_coe:g}", "router") for point in comparison.sweep]
    anchors = [*points, *swept]
    sizes = [(len(text) * _CHARACTER, _LINE) for text, _ in texts]
    boxes = place_labels(anchors, sizes, Box(_LEFT, 0, _WIDTH, _BOTTOM), [swept])
    drawn = []
    for (text, kind), anchor, box in zip(texts, anchors, boxes, strict=True):
        if box.distance_to(anchor) > _LEADER_FROM:
            x, y = box.nearest(anchor)
            leader = {"x1": anchor[0], "y1": anchor[1], "x2": x, "y2": y}
            drawn.append(tag("line", **leader, class_=f"leader kind-{kind}"))
        place = {"x": box.x0, "y": box.y1 - _BASELINE}
        drawn.append(tag("text", text, **place, class_=f"name kind-{kind}"))
    return drawn


def legend(rows: Sequence[ComparisonRow], has_sweep: bool) -> Markup:
    """Which mark is which kind of router."""
    kinds = [kind for kind in KIND_LABELS if any(row.kind == kind for row in rows)]
    items = [
        tag(
            "span",
            tag("svg", kind_mark(kind, 8, 8), viewBox="0 0 16 16", class_="key"),
            KIND_LABELS[kind],
        )
        for kind in kinds
    ]
    if has_sweep:
        line = tag("line", x1=0, x2=16, y1=8, y2=8, class_="sweep")
        items.append(
            tag(
                "span",
                tag("svg", line, viewBox="0 0 16 16", class_="key"),
                f"cost coefficient {ALPHA}",
            )
        )
    return tag("p", *items, class_="legend")


def kind_mark(kind: str, x: float, y: float, title: str = "") -> Markup:
    """The mark of one kind of router, centred at (x, y) pixels."""
    about = (tag("title", title),) if title else ()
    class_ = f"mark kind-{kind}"
    if kind == "single":
        return tag("rect", *about, x=x - 5, y=y - 5, width=10, height=10, class_=class_)
    if kind == "random":
        path = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"
        return tag("path", *about, d=path, class_=f"{class_} stroke")
    if kind in ("fusion", "retrieval"):
        up = 1 if kind == "fusion" else -1
        path = f"M{x:.1f} {y - 7 * up:.1f}l6.5 {12 * up}h-13z"
        return tag("path", *about, d=path, class_=class_)
    if kind == "oracle":
        path = f"M{x:.1f} {y - 8:.1f}l7 8l-7 8l-7 -8z"
        return tag("path", *about, d=path, class_=f"{class_} hollow")
    radius = 7.5 if kind == "router" else 5.5
    return tag("circle", *about, cx=x, cy=y, r=radius, class_=class_)


def _marker(row: ComparisonRow, x: float, y: float) -> Markup:
    text = (
        f"{row.name}: EM {row.em:.3f}, ${per_thousand(row.dollars):.3g} per 1000 questions, "
        f"{row.calls:.2f} calls a question"
    )
    return kind_mark(row.kind, x, y, text)


def _interval(row: ComparisonRow, x: float, y: Axis) -> Markup:
    if row.em_low is None or row.em_high is None:
        return Markup("")
    return tag(
        "line", x1=x, x2=x, y1=y(row.em_low), y2=y(row.em_high), class_=f"interval kind-{row.kind}"
    )


def frontier(comparison: ComparisonFile) -> list[ComparisonRow | ComparisonPoint]:
    """What nothing beats in both EM and dollars, the cheapest first; the oracle does not count."""
    real: list[ComparisonRow | ComparisonPoint] = [r for r in comparison.rows if r.kind != "oracle"]
    best: list[ComparisonRow | ComparisonPoint] = []
    for point in sorted([*real, *comparison.sweep], key=lambda p: (p.dollars, -p.em)):
        if not best or point.em > best[-1].em:
            best.append(point)
    return best


def _frontier(comparison: ComparisonFile, x: Axis, y: Axis) -> Markup:
    corners = [(x(per_thousand(point.dollars)), y(point.em)) for point in frontier(comparison)]
    if not corners:
        return Markup("")
    path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}"
    path += "".join(f"H{px:.1f}V{py:.1f}" for px, py in corners[1:]) + f"H{_RIGHT:g}"
    return tag("path", d=path, class_="frontier")


def _sweep_line(points: Sequence[Coordinates]) -> Markup:
    if not points:
        return Markup("")
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    dots = [tag("circle", cx=px, cy=py, r=4.0, class_="mark kind-router") for px, py in points]
    return join(tag("polyline", points=path, class_="sweep"), *dots)
