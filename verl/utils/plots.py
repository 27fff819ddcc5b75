"""Curves of a run's metrics over its steps, and the style of every chart.

Guarantees: where a run was resumed, the later value of a step counts; a picture is there whole or
not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from verl.utils.files import written_whole

BLUE, ORANGE = "#3b6fc9", "#d9822b"
INK, DIM, PAPER = "#1d2127", "#666b73", "#ffffff"
HINT = "hint:"  # begins the gid of a mark; what follows says what the mark is
_SMOOTHING = 5
_COLUMNS = 3
_STYLE: Any = {
    "text.color": INK,
    "axes.labelcolor": DIM,
    "axes.edgecolor": DIM,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": DIM,
    "grid.alpha": 0.22,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.h_pad": 0.08,
    "svg.fonttype": "none",
    "svg.hashsalt": "verl",
}


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        label: in the legend.
        metrics: names; the first that the run has is drawn.
        measured: now and then, as by a validation: dots, joined. Otherwise there is a value for
            each step, of which the running mean is drawn.
    """

    label: str
    metrics: tuple[str, ...]
    color: str = BLUE
    measured: bool = False

    def points(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
        """(step, value), by step."""
        for metric in self.metrics:
            found = {row["step"]: row[metric] for row in rows if row.get(metric) is not None}
            if found:
                return sorted(found.items())
        return []


@dataclass(frozen=True)
class Chart:
    """One quantity over the steps."""

    title: str
    curves: tuple[Curve, ...]


def training_curve(*metrics: str) -> Curve:
    """Of the batches of training."""
    return Curve("training, running mean of 5 steps", metrics)


ENTROPY_CHART = Chart("Policy entropy (nats per token)", (training_curve("actor/entropy"),))
KL_CHART = Chart("KL to the reference (per token)", (training_curve("critic/kl", "actor/kl_loss"),))
TRAINING_CHARTS = (
    Chart(
        "Reward",
        (
            training_curve("critic/score/mean"),
            Curve("validation", ("val/test_score/reward/all",), ORANGE, measured=True),
        ),
    ),
    ENTROPY_CHART,
    KL_CHART,
)


def save_curves(metrics_file: Path, charts: Sequence[Chart], image: Path) -> None:
    """Draws all charts of a ``metrics.jsonl`` into one picture, such as ``curves.png``."""
    lines = metrics_file.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line]
    height = -(-len(charts) // _COLUMNS)
    with figure_of(13.0, 0.4 + 3.2 * height) as figure:
        grid = figure.subplots(height, _COLUMNS, squeeze=False)
        for axes, chart in zip_longest(grid.flat, charts):
            if chart is None or not draw_curves(axes, rows, chart):
                axes.set_axis_off()
        add_legend(figure, loc="outside lower center", ncols=4)
        save_figure(figure, image)


@contextmanager
def figure_of(width: float, height: float) -> Iterator[Figure]:
    """An empty figure, so many inches large, and the style while it is drawn and saved."""
    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def draw_curves(axes: Axes, rows: Sequence[Mapping[str, Any]], chart: Chart) -> bool:
    """Draws a chart; whether there was anything to draw.

    A line of its own stands before its raw values, which several would make unreadable.
    """
    lines = [(curve, points) for curve in chart.curves if (points := curve.points(rows))]
    alone = sum(not curve.measured for curve, _ in lines) == 1
    for curve, points in lines:
        steps, values = zip(*points, strict=True)
        if curve.measured:
            axes.plot(steps, values, "o:", color=curve.color, markersize=4, label=curve.label)
        else:
            if alone:
                axes.plot(steps, values, color=curve.color, alpha=0.25, linewidth=1)
            values = _running_mean(values)
            axes.plot(steps, values, color=curve.color, linewidth=2, label=curve.label)
        marked = range(len(steps)) if curve.measured else [-1]
        for i in marked:
            hint = f"{HINT}{curve.label}, step {steps[i]}: {values[i]:.4g}"
            axes.plot(steps[i], values[i], "o", color=curve.color, markersize=4, gid=hint)
    axes.set_title(chart.title)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return bool(lines)


def _running_mean(values: Sequence[float]) -> tuple[float, ...]:
    windows = [values[max(0, i - _SMOOTHING + 1) : i + 1] for i in range(len(values))]
    return tuple(sum(window) / len(window) for window in windows)


def add_legend(figure: Figure, **options: Any) -> None:
    """One entry for each label of the figure."""
    entries = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(list(entries.values()), list(entries), **options)


def save_figure(figure: Figure, image: Path) -> None:
    """Writes a PNG."""
    with written_whole(image) as temporary:
        figure.savefig(temporary, dpi=140)
