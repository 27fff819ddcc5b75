"""The charts of routers, each drawn once: what is written as PNG also stands in the pages."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from router_r1.evaluation.comparison import KINDS, Comparison, Means, Row
from router_r1.evaluation.labels import place_labels
from router_r1.web.svg import COLOURS, css_colour, inline_svg
from verl.utils import plots
from verl.utils.plots import Chart, Curve, draw_curves, figure_of, training_curve

Place = tuple[float, float]  # dollars for 1000 questions, and EM
HUES = 10
_VALIDATION = "val/test_score/"
_LLM_CALLS, _LLM_SPENDING = "reward/calls/", "pool/spent_usd/"
_QUANTITIES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Reward", ("critic/score/mean",), "reward"),
    ("EM", ("reward/em", "critic/metric/mean"), "EM"),
    ("Cost per question (tokens \N{MULTIPLICATION SIGN} $/1M)", ("critic/cost/mean",), "cost"),
    ("Calls per question", ("env/number_of_valid_route", "reward/route_cnt"), "route_cnt"),
)
# Of each kind of router: marker and its area.
_MARKS = {
    "random": ("X", 58),
    "single": ("o", 46),
    "learned": ("s", 48),
    "fusion": ("P", 74),
    "retrieval": ("D", 48),
    "prompt": ("v", 70),
    "router": ("*", 230),
    "oracle": ("^", 78),
}
_LEADER_FROM = 16.0  # pixels between a mark and its label


# -- over a run's steps --------------------------------------------------------------------------


def routing_charts(sources: Sequence[str] = ("all",)) -> list[Chart]:
    """What is drawn of a run, with one line for the validation of each of ``sources``."""
    charts = []
    for title, training, validated in _QUANTITIES:
        curves = [training_curve(*training)]
        for number, source in enumerate(sources):
            color = "text" if source == "all" and number else f"hue-{1 + number % (HUES - 1)}"
            label = "validation" if list(sources) == ["all"] else f"validation: {source}"
            metric = f"{_VALIDATION}{validated}/{source}"
            curves.append(Curve(label, (metric,), COLOURS[color], measured=True))
        charts.append(Chart(title, tuple(curves)))
    return [*charts, plots.ENTROPY_CHART, plots.KL_CHART]


def llms_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The pool's LLMs, in its order, as far as the metrics name them."""
    pattern = re.compile(f"(?:{_LLM_CALLS}|{_LLM_SPENDING})(.+)")
    found = (pattern.match(name) for row in rows for name in row)
    return list(dict.fromkeys(match[1] for match in found if match))


def validation_sources(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Datasets that validation reports; ``all`` last, alone if there is only one dataset."""
    names = dict.fromkeys(
        metric.rsplit("/", 1)[1] for row in rows for metric in row if metric.startswith(_VALIDATION)
    )
    single = [name for name in names if name != "all"]
    return [*single, "all"] if len(single) != 1 and "all" in names else single


class LearningCurves(NamedTuple):
    """A picture of each quantity, and what the lines are: label to colour."""

    legend: dict[str, str]
    figures: list[Markup]


def learning_curves(rows: Sequence[Mapping[str, Any]]) -> LearningCurves | None:
    """All curves of a run, whom training asks last; None without any figures."""
    curves = LearningCurves({}, [])
    of_llms = (
        Curve(llm, (f"{_LLM_CALLS}{llm}",), COLOURS[f"hue-{number % HUES}"])
        for number, llm in enumerate(llms_of(rows))
    )
    asked = Chart("Calls per question to each LLM", tuple(of_llms))
    for chart in (*routing_charts(validation_sources(rows)), asked):
        with figure_of(4.6, 3.2 if chart is asked else 2.7) as figure:
            if not draw_curves(figure.subplots(), rows, chart):
                continue
            if chart is asked:  # the one chart with a legend of its own
                plots.add_legend(figure, loc="outside lower center", ncols=3)
            else:
                curves.legend.update((c.label, css_colour(c.color)) for c in chart.curves)
            curves.figures.append(inline_svg(figure, f"{chart.title} by training step"))
    return curves if curves.figures else None


# -- EM against dollars --------------------------------------------------------------------------


def comparison_png(comparison: Comparison, image: Path) -> None:
    """Writes the picture, whole or not at all."""
    with figure_of(11, 7) as figure:
        _draw_comparison(figure, comparison)
        plots.save_figure(figure, image)


def comparison_svg(comparison: Comparison) -> Markup:
    """The picture for a page."""
    with figure_of(11, 7) as figure:
        _draw_comparison(figure, comparison)
        return inline_svg(figure, f"{comparison.quality} against dollars of every router")


class Mark(NamedTuple):
    """What lies at one place of the chart; without an ``interval`` of EM it is a point of the sweep
    alone, whose ``kind`` is that of routers."""

    place: Place
    kind: str
    label: str
    hint: str
    interval: tuple[float, float] | None


def place_of(means: Means) -> Place:
    """Where a router lies in the chart."""
    return round(means.dollars * 1000, 9), round(means.em, 6)


def marks(comparison: Comparison) -> list[Mark]:
    """Measured rows that cost something, then the sweep; what lies at one place shares a mark.

    A point of the sweep joins a trained router at its place, and leaves an oracle its own label.
    """
    rows: dict[Place, list[Row]] = {}
    for row in comparison.rows:
        if row.total.em_low is not None and row.total.dollars > 0:
            rows.setdefault(place_of(row.total), []).append(row)
    labels: dict[Place, str] = {}
    for point in comparison.sweep:
        place = place_of(point.total)
        before = f"{labels[place]}, " if place in labels else "cost_coe "
        labels[place] = f"{before}{point.cost_coe:g}"

    def hint(label: str, place: Place) -> str:
        return f"{label}: {comparison.quality} {place[1]:.3f}, ${place[0]:.3g} per 1000 questions"

    found = []
    for place, group in rows.items():
        means, kind = group[0].total, group[0].kind
        own = [labels.pop(place)] if kind == "router" and place in labels else []
        label = ", ".join([_shared_label([row.name for row in group]), *own])
        interval = (means.em_low or 0.0, means.em_high or 0.0)
        calls = f", {means.calls:.2f} calls a question"
        found.append(Mark(place, kind, label, hint(label, place) + calls, interval))
    for place, label in labels.items():
        found.append(Mark(place, "router", label, hint(label, place), None))
    return found


def _shared_label(names: Sequence[str]) -> str:
    """Names without what they share: "Fornax, cheapest" for "Fornax" and "cheapest (Fornax)"."""
    first, *others = names
    shared = re.sub(r"[\w.]*$", "", os.path.commonprefix(names))  # noqa: RUF071 - no paths
    return ", ".join(
        [first, *(name.removesuffix(f" ({first})").removeprefix(shared) for name in others)]
    )


def pareto_front(comparison: Comparison) -> list[Place]:
    """What no other beats at the same or a lower price, from cheap to dear, without oracles."""
    places = [place_of(point.total) for point in comparison.sweep]
    places += [mark.place for mark in marks(comparison) if mark.kind != "oracle"]
    front: list[Place] = []
    for dollars, em in sorted(places, key=lambda place: (place[0], -place[1])):
        if not front or em > front[-1][1]:
            front.append((dollars, em))
    return front


def _draw_comparison(figure: Figure, comparison: Comparison) -> None:
    axes, drawn = figure.subplots(), marks(comparison)
    for mark in sorted(drawn, key=lambda mark: list(KINDS).index(mark.kind)):
        _draw_mark(axes, mark)
    sweep = [place_of(point.total) for point in comparison.sweep]
    if sweep:
        style: dict[str, Any] = {"color": COLOURS["kind-router"], "mec": plots.PAPER, "zorder": 3}
        axes.plot(*zip(*sweep, strict=True), "-o", label="trained router, by cost_coe", **style)
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.08)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("dollars for 1,000 questions (log scale)")
    axes.set_ylabel(f"{comparison.quality}, with 95% interval")
    axes.set_title(comparison.title, fontsize=13, pad=12)
    axes.xaxis.set_major_formatter(lambda value, _: f"${value:g}")
    axes.xaxis.set_minor_formatter("")
    corners = _draw_front(axes, pareto_front(comparison))
    plots.add_legend(figure, loc="outside lower center", ncols=5)
    intervals = [[(m.place[0], end) for end in m.interval] for m in drawn if m.interval]
    _write_labels(figure, axes, drawn, [corners, sweep, *intervals])


def _draw_mark(axes: Axes, mark: Mark) -> None:
    color, marker, size, label = COLOURS[f"kind-{mark.kind}"], "o", 36, None
    if mark.interval is not None:  # else it is on the line of the sweep
        (marker, size), label = _MARKS[mark.kind], KINDS[mark.kind]
        axes.vlines(mark.place[0], *mark.interval, color=color, alpha=0.28, lw=1.6, zorder=2.5)
    style: dict[str, Any] = {"edgecolors": plots.PAPER, "linewidths": 0.8, "zorder": 4}
    style |= {"s": size, "c": color, "marker": marker, "gid": plots.HINT + mark.hint}
    axes.scatter(*mark.place, label=label, **style)


def _draw_front(axes: Axes, front: Sequence[Place]) -> list[Place]:
    """Draws the front to the right edge and shades what it beats; its corners."""
    if not front:
        return []
    bottom, right = axes.get_ylim()[0], axes.get_xlim()[1]
    x, y = zip(*front, (right, front[-1][1]), strict=True)
    style: dict[str, Any] = {"color": plots.DIM, "lw": 1.3, "linestyle": (0, (4, 3)), "zorder": 2}
    axes.step(x, y, where="post", label="Pareto front (without oracle)", **style)
    axes.fill_between(x, y, bottom, step="post", color=plots.BLUE, alpha=0.045, linewidth=0)
    axes.set_xlim(right=right)
    steps = [[(x[i], y[i - 1]), (x[i], y[i])] for i in range(1, len(x))]
    return [(x[0], y[0]), *(corner for step in steps for corner in step)]


def _write_labels(
    figure: Figure, axes: Axes, drawn: Sequence[Mark], lines: Sequence[Sequence[Place]]
) -> None:
    """Labels where they cover nothing, with a line to a mark that is far off."""
    if not drawn:
        return
    figure.canvas.draw()  # before this the axes have no final place
    texts = []
    for mark in drawn:
        weight = "bold" if mark.kind == "router" else "normal"
        text = axes.annotate(mark.label, mark.place, fontsize=8.8, fontweight=weight, zorder=5)
        text.set_color(COLOURS[f"kind-{mark.kind}"])
        texts.append(text)
    to_pixels, to_data = axes.transData, axes.transData.inverted()
    anchors = to_pixels.transform([mark.place for mark in drawn])
    sizes = [text.get_window_extent().size for text in texts]
    frame = axes.get_window_extent().extents
    pixels = [to_pixels.transform(line) for line in lines if line]
    boxes = place_labels(anchors, sizes, frame, pixels)
    for text, anchor, box in zip(texts, anchors, boxes, strict=True):
        text.set_position(tuple(to_data.transform(box[:2])))
        nearest = np.clip(anchor, box[:2], box[2:])
        if np.linalg.norm(nearest - anchor) > _LEADER_FROM:
            ends = to_data.transform([anchor, nearest])
            axes.plot(*ends.T, color=text.get_color(), alpha=0.45, lw=0.8, zorder=3)
