"""The Pareto plot: EM against dollars of every router compared, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from router_r1.evaluation.report.axes import Axis, cost_axis, draw_axes, linear_axis
from router_r1.evaluation.report.inputs import Comparison, ComparisonRow
from router_r1.evaluation.report.markup import Markup, join, tag

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
_CHARACTER, _LINE = 6.3, 14.0  # pixels of a label's character and line
# Where a label may stand, relative to its point: (dx, dy, anchor), best first.
_PLACES = (
    (11, 4, "start"),
    (-11, 4, "end"),
    (0, -12, "middle"),
    (0, 21, "middle"),
    (9, -9, "start"),
    (9, 17, "start"),
    (-9, -9, "end"),
    (-9, 17, "end"),
    (0, -26, "middle"),
    (0, 35, "middle"),
)


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: _Box) -> float:
        """Area in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


def per_thousand(dollars: float) -> float:
    """Dollars of a thousand questions."""
    return 1000.0 * dollars


def pareto_plot(comparison: Comparison) -> Markup:
    """Points with intervals and names, the sweep as a line, the frontier dashed."""
    rows, sweep = comparison.rows, comparison.sweep
    dollars = [per_thousand(p.dollars) for p in (*rows, *sweep)]
    bounds = [v for row in rows for v in (row.em_low, row.em_high) if v is not None]
    x = cost_axis(dollars, _LEFT, _RIGHT)
    y = linear_axis([*(p.em for p in (*rows, *sweep)), *bounds], _BOTTOM, _TOP, from_zero=True)
    points = [(x(per_thousand(row.dollars)), y(row.em)) for row in rows]
    swept = [(x(per_thousand(p.dollars)), y(p.em)) for p in sweep]
    boxes = [_Box(px - 7, py - 7, px + 7, py + 7) for px, py in (*points, *swept)]
    labels = [(row.name, f"name kind-{row.kind}") for row in rows]
    labels += [(f"α = {p.cost_coe:g}", "name kind-router") for p in sweep]
    # A swept point that coincides with a row's is named by both.
    drawn = [
        draw_axes(
            x,
            y,
            "dollars per 1000 questions" + (" (logarithmic)" if x.log else ""),
            "EM",
            "${:g}".format,
        ),
        _frontier(rows, x, y),
        _sweep_line(swept),
        *(_interval(row, px, y) for row, (px, _) in zip(rows, points, strict=True)),
        *(_marker(row, *point) for row, point in zip(rows, points, strict=True)),
        *(
            _place(text, class_, at, boxes)
            for (text, class_), at in zip(labels, (*points, *swept), strict=True)
        ),
    ]
    return tag(
        "svg",
        *drawn,
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        class_="chart pareto",
        role="img",
        aria_label="EM against dollars of every router",
    )


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
            tag("span", tag("svg", line, viewBox="0 0 16 16", class_="key"), "cost coefficient α")
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


def frontier(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Rows that no other beats in both EM and dollars, the cheapest first; the oracle is none."""
    best: list[ComparisonRow] = []
    real = [row for row in rows if row.kind != "oracle"]
    for row in sorted(real, key=lambda row: (row.dollars, -row.em)):
        if not best or row.em > best[-1].em:
            best.append(row)
    return best


def _frontier(rows: Sequence[ComparisonRow], x: Axis, y: Axis) -> Markup:
    corners = [(x(per_thousand(row.dollars)), y(row.em)) for row in frontier(rows)]
    if not corners:
        return Markup("")
    path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}"
    path += "".join(f"H{px:.1f}V{py:.1f}" for px, py in corners[1:]) + f"H{_RIGHT:g}"
    return tag("path", d=path, class_="frontier")


def _sweep_line(points: Sequence[tuple[float, float]]) -> Markup:
    if not points:
        return Markup("")
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    dots = [tag("circle", cx=px, cy=py, r=4.0, class_="mark kind-router") for px, py in points]
    return join(tag("polyline", points=path, class_="sweep"), *dots)


def _place(text: str, class_: str, at: tuple[float, float], boxes: list[_Box]) -> Markup:
    """The label where it covers least; what it takes is added to ``boxes``."""
    width = len(text) * _CHARACTER
    best: tuple[float, _Box, float, float, str] | None = None
    for dx, dy, anchor in _PLACES:
        x, y = at[0] + dx, at[1] + dy
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        box = _Box(left, y - _LINE + 3, left + width, y + 3)
        covered = sum(box.overlap(other) for other in boxes)
        outside = max(0.0, _LEFT - left) + max(0.0, box.right - _WIDTH) + max(0.0, box.bottom - 412)
        badness = covered + 100 * outside
        if best is None or badness < best[0] - 1e-9:
            best = (badness, box, x, y, anchor)
    assert best is not None
    _, box, x, y, anchor = best
    boxes.append(box)
    return tag("text", text, x=x, y=y, text_anchor=anchor, class_=class_)
