"""The Pareto plot: EM against dollars, the front that nothing beats, the sweep of ``cost_coe``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router_r1.evaluation.comparison.labels import Box, Coordinates, place_labels
from router_r1.evaluation.comparison.rows import Comparison, Row, SweepPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PER_QUESTIONS = 1000
_INK, _FAINT = "#2b2f36", "#8a919c"
_LEADER_FROM = 22.0  # pixels between a mark and its label


@dataclass(frozen=True)
class _Style:
    label: str
    color: str
    marker: str
    size: float


_STYLES = {
    "random": _Style("random", "#8a919c", "X", 58),
    "single": _Style("single LLM", "#5b6b82", "o", 46),
    "learned": _Style("learned single-shot router", "#3b6fc9", "s", 48),
    "fusion": _Style("fusion of answers", "#7a4fb5", "P", 74),
    "retrieval": _Style("retrieval", "#2a9d8f", "D", 48),
    "prompt": _Style("prompt-only router", "#c9701d", "v", 70),
    "router": _Style("trained router", "#d1345b", "*", 230),
    "oracle": _Style("oracle", "#a8861c", "^", 78),
}


@dataclass(frozen=True)
class Point:
    """A mark of the plot: dollars for 1000 questions, EM and its interval, and the label."""

    x: float
    y: float
    low: float
    high: float
    kind: str
    label: str


def points_of(rows: Sequence[Row]) -> list[Point]:
    """Measured rows that cost something; rows at the same place are one mark."""
    places: dict[tuple[float, float], list[Row]] = {}
    for row in rows:
        if row.total.em_low is not None and row.total.dollars > 0:
            place = (round(row.total.dollars * _PER_QUESTIONS, 9), round(row.total.em, 6))
            places.setdefault(place, []).append(row)
    points = []
    for (x, y), group in places.items():
        total = group[0].total
        low, high = total.em_low or 0.0, total.em_high or 0.0
        points.append(Point(x, y, low, high, group[0].kind, _label([row.name for row in group])))
    return points


def _label(names: Sequence[str]) -> str:
    """Names without what they share: "Fornax, cheapest" for "Fornax" and "cheapest (Fornax)"."""
    first, *others = names
    shared = re.sub(r"[\w.]*$", "", os.path.commonprefix(names))  # noqa: RUF071 - no paths
    return ", ".join(
        [first, *(name.removesuffix(f" ({first})").removeprefix(shared) for name in others)]
    )


def labels_of(
    points: Sequence[Point], sweep: Sequence[SweepPoint]
) -> list[tuple[Coordinates, str, str]]:
    """Place, label and kind; routers of a sweep at one place share a label, also with a row's."""
    places: dict[Coordinates, list[str]] = {}
    for point in sweep:
        place = (round(point.total.dollars * _PER_QUESTIONS, 9), round(point.total.em, 6))
        places.setdefault(place, []).append(f"{point.cost_coe:g}")
    labels = {place: f"cost_coe {', '.join(coes)}" for place, coes in places.items()}
    texts = []
    for p in points:
        own = [labels.pop((p.x, p.y))] if p.kind == "router" and (p.x, p.y) in labels else []
        texts.append(((p.x, p.y), ", ".join([p.label, *own]), p.kind))
    return [*texts, *((place, label, "router") for place, label in labels.items())]


def pareto_front(places: Sequence[Coordinates]) -> list[Coordinates]:
    """Of (dollars, EM), those no other beats at the same or a lower price, from cheap to dear."""
    front: list[Coordinates] = []
    for x, y in sorted(places, key=lambda place: (place[0], -place[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def plot_comparison(comparison: Comparison, image: Path) -> None:
    """Writes the picture, whole or not at all."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    points = points_of(comparison.rows)
    figure, axes = plt.subplots(figsize=(11, 7), constrained_layout=True)
    try:
        _draw_points(axes, points)
        sweep = _draw_sweep(axes, comparison)
        _finish_axes(axes, comparison.title)
        front = _draw_front(axes, [*((p.x, p.y) for p in points if p.kind != "oracle"), *sweep])
        if points:
            figure.legend(
                loc="outside lower center", ncols=5, frameon=False, fontsize=9, labelcolor=_INK
            )
        intervals = [[(p.x, p.low), (p.x, p.high)] for p in points]
        _write_labels(axes, labels_of(points, comparison.sweep), [front, sweep, *intervals])
        image.parent.mkdir(parents=True, exist_ok=True)
        temporary = image.with_name(f".{image.stem}.tmp-{os.getpid()}.png")
        figure.savefig(temporary, dpi=150)
        os.replace(temporary, image)
    finally:
        plt.close(figure)


def _draw_points(axes: Axes, points: Sequence[Point]) -> None:
    for kind, style in _STYLES.items():
        chosen = [point for point in points if point.kind == kind]
        if not chosen:
            continue
        x, y = [p.x for p in chosen], [p.y for p in chosen]
        axes.vlines(
            x,
            [p.low for p in chosen],
            [p.high for p in chosen],
            color=style.color,
            alpha=0.28,
            linewidth=1.6,
            zorder=2.5,
        )
        axes.scatter(
            x,
            y,
            s=style.size,
            c=style.color,
            marker=style.marker,
            edgecolors="white",
            linewidths=0.8,
            zorder=4,
            label=style.label,
        )


def _draw_sweep(axes: Axes, comparison: Comparison) -> list[Coordinates]:
    """Draws the line of the sweep; its corners."""
    corners = [(p.total.dollars * _PER_QUESTIONS, p.total.em) for p in comparison.sweep]
    if corners:
        axes.plot(
            [x for x, _ in corners],
            [y for _, y in corners],
            "-o",
            color=_STYLES["router"].color,
            markersize=6,
            markeredgecolor="white",
            linewidth=1.8,
            zorder=3,
            label="trained router, by cost_coe",
        )
    return corners


def _draw_front(axes: Axes, places: Sequence[Coordinates]) -> list[Coordinates]:
    """Draws the front to the right edge, shades what it beats; its corners."""
    front = pareto_front(places)
    if not front:
        return []
    bottom, right = axes.get_ylim()[0], axes.get_xlim()[1]
    x, y = [*(x for x, _ in front), right], [*(y for _, y in front), front[-1][1]]
    axes.step(
        x,
        y,
        where="post",
        color=_FAINT,
        linewidth=1.3,
        linestyle=(0, (4, 3)),
        zorder=2,
        label="Pareto front (without oracle)",
    )
    axes.fill_between(x, y, bottom, step="post", color="#3b6fc9", alpha=0.045, linewidth=0)
    axes.set_xlim(right=right)
    corners = [(x[0], y[0])]
    for before, i in enumerate(range(1, len(x))):
        corners += [(x[i], y[before]), (x[i], y[i])]
    return corners


def _finish_axes(axes: Axes, title: str) -> None:
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.08)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("dollars for 1,000 questions (log scale)", color=_INK)
    axes.set_ylabel("exact match, with 95% interval", color=_INK)
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=_INK, pad=12)
    axes.grid(alpha=0.22, which="major")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, which="both", labelsize=9)
    axes.xaxis.set_major_formatter(lambda value, _: f"${value:g}")
    axes.xaxis.set_minor_formatter("")


def _write_labels(
    axes: Axes,
    texts: Sequence[tuple[Coordinates, str, str]],
    lines: Sequence[Sequence[Coordinates]],
) -> None:
    """Texts where they cover nothing, with a line to a mark that is far off."""
    axes.figure.canvas.draw()  # before this the axes have no final place
    drawn = [
        axes.annotate(
            text,
            place,
            fontsize=8.8,
            color=_STYLES[kind].color,
            fontweight="bold" if kind == "router" else "normal",
            zorder=5,
        )
        for place, text, kind in texts
    ]
    anchors = [_pixels(axes, place) for place, _, _ in texts]
    frame = axes.get_window_extent()
    places = place_labels(
        anchors,
        [_size(text) for text in drawn],
        Box(frame.x0, frame.y0, frame.x1, frame.y1),
        [[_pixels(axes, corner) for corner in line] for line in lines],
    )
    back = axes.transData.inverted()
    for text, anchor, place in zip(drawn, anchors, places, strict=True):
        text.set_position(tuple(back.transform((place.x0, place.y0))))
        if place.distance_to(anchor) > _LEADER_FROM:
            (x0, y0), (x1, y1) = back.transform([anchor, place.nearest(anchor)])
            axes.plot(
                [x0, x1], [y0, y1], color=text.get_color(), alpha=0.45, linewidth=0.8, zorder=3
            )


def _pixels(axes: Axes, point: Coordinates) -> Coordinates:
    x, y = axes.transData.transform(point)
    return float(x), float(y)


def _size(text: Any) -> tuple[float, float]:
    extent = text.get_window_extent()
    return extent.width, extent.height
