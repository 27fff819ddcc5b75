"""The Pareto plot: EM against dollars, the front that nothing beats, the sweep of ``cost_coe``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router_r1.evaluation.comparison.labels import Box, place_labels
from router_r1.evaluation.comparison.rows import Comparison, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PER_QUESTIONS = 1000
_INK, _FAINT = "#2b2f36", "#8a919c"


@dataclass(frozen=True)
class _Style:
    label: str
    color: str
    marker: str
    size: float = 58.0


_STYLES = {
    "random": _Style("random", "#8a919c", "X"),
    "single": _Style("single LLM", "#6b7a90", "o", 46),
    "learned": _Style("learned single-shot router", "#3b6fc9", "s", 50),
    "fusion": _Style("fusion of answers", "#7a4fb5", "P", 74),
    "retrieval": _Style("retrieval", "#2a9d8f", "D", 48),
    "prompt": _Style("prompt-only router", "#d9822b", "v", 70),
    "router": _Style("trained router", "#d1345b", "*", 210),
    "oracle": _Style("oracle", "#c9a227", "^", 78),
}


@dataclass(frozen=True)
class Point:
    """A mark of the plot: dollars for 1000 questions, EM, the names that share the place."""

    x: float
    y: float
    kind: str
    names: tuple[str, ...]


def points_of(rows: Sequence[Row]) -> list[Point]:
    """Measured rows that cost something; rows at the same place are one mark."""
    places: dict[tuple[float, float], list[Row]] = {}
    for row in rows:
        if row.total.em_low is not None and row.total.dollars > 0:
            place = (round(row.total.dollars * _PER_QUESTIONS, 9), round(row.total.em, 6))
            places.setdefault(place, []).append(row)
    return [
        Point(x, y, group[0].kind, tuple(row.name for row in group))
        for (x, y), group in places.items()
    ]


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Those no other beats in EM at the same or a lower price, from cheap to dear."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not front or point.y > front[-1].y:
            front.append(point)
    return front


def plot_comparison(comparison: Comparison, image: Path) -> None:
    """Writes the picture, whole or not at all."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    points = points_of(comparison.rows)
    figure, axes = plt.subplots(figsize=(11, 6.8), constrained_layout=True)
    try:
        if points:
            _draw_front(axes, pareto_front([p for p in points if p.kind != "oracle"]))
        _draw_sweep(axes, comparison)
        for kind, style in _STYLES.items():
            chosen = [point for point in points if point.kind == kind]
            axes.scatter(
                [p.x for p in chosen],
                [p.y for p in chosen],
                s=style.size,
                c=style.color,
                marker=style.marker,
                edgecolors="white",
                linewidths=0.8,
                zorder=4,
                label=style.label if chosen else None,
            )
        _finish_axes(axes, comparison.title)
        _write_labels(axes, points, comparison)
        image.parent.mkdir(parents=True, exist_ok=True)
        temporary = image.with_name(f".{image.stem}.tmp-{os.getpid()}.png")
        figure.savefig(temporary, dpi=150)
        os.replace(temporary, image)
    finally:
        plt.close(figure)


def _draw_front(axes: Axes, front: Sequence[Point]) -> None:
    axes.step(
        [p.x for p in front],
        [p.y for p in front],
        where="post",
        color=_FAINT,
        linewidth=1.4,
        linestyle=(0, (4, 3)),
        zorder=2,
        label="Pareto front (without oracle)",
    )


def _draw_sweep(axes: Axes, comparison: Comparison) -> None:
    if not comparison.sweep:
        return
    axes.plot(
        [point.total.dollars * _PER_QUESTIONS for point in comparison.sweep],
        [point.total.em for point in comparison.sweep],
        "-o",
        color=_STYLES["router"].color,
        markersize=5,
        markeredgecolor="white",
        linewidth=1.8,
        zorder=3,
        label="trained router, by cost_coe",
    )


def _finish_axes(axes: Axes, title: str) -> None:
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.1)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("dollars for 1,000 questions (log scale)", color=_INK)
    axes.set_ylabel("exact match", color=_INK)
    axes.set_title(title, loc="left", fontsize=13, color=_INK, pad=12)
    axes.grid(alpha=0.22, which="major")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, which="both", labelsize=9)
    axes.xaxis.set_major_formatter(lambda value, _: f"${value:g}")
    axes.xaxis.set_minor_formatter("")
    axes.legend(
        frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0), labelcolor=_INK
    )


def _write_labels(axes: Axes, points: Sequence[Point], comparison: Comparison) -> None:
    """Texts where they cover neither a mark nor each other, with a line to a mark far off."""
    texts = [(p.x, p.y, " = ".join(p.names), _STYLES[p.kind].color) for p in points]
    texts += [
        (
            s.total.dollars * _PER_QUESTIONS,
            s.total.em,
            f"cost_coe {s.cost_coe:g}",
            _STYLES["router"].color,
        )
        for s in comparison.sweep
    ]
    figure = axes.figure
    figure.canvas.draw()
    anchors = [tuple(axes.transData.transform((x, y))) for x, y, _, _ in texts]
    drawn = [
        axes.annotate(text, (x, y), fontsize=8.5, color=color, zorder=5)
        for x, y, text, color in texts
    ]
    sizes = [_size(text) for text in drawn]
    inside = axes.get_window_extent()
    frame = Box(inside.x0, inside.y0, inside.x1, inside.y1)
    for text, anchor, place in zip(
        drawn, anchors, place_labels(anchors, sizes, frame), strict=True
    ):
        text.set_position(tuple(axes.transData.inverted().transform((place.x0, place.y0))))
        if place.distance_to(anchor) > 16:
            end = axes.transData.inverted().transform(place.nearest(anchor))
            start = axes.transData.inverted().transform(anchor)
            axes.plot(
                [start[0], end[0]],
                [start[1], end[1]],
                color=text.get_color(),
                alpha=0.45,
                linewidth=0.8,
                zorder=3,
            )


def _size(text: Any) -> tuple[float, float]:
    extent = text.get_window_extent()
    return extent.width, extent.height
