"""Learning curves of the training run, as small SVG panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router_r1.evaluation.report.axes import Axis, draw_axes, linear_axis
from router_r1.evaluation.report.markup import TIMES, Markup, join, tag
from router_r1.evaluation.report.routing import colour_class, llm_legend

_SMOOTHING = 5
_COLOURS = 7
_WIDTH, _HEIGHT = 400.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 388.0, 16.0, 196.0
_VALIDATION = "val/test_score/"
_LLM_CALLS = "reward/calls/"
_LLM_SPENDING = "pool/spent_usd/"

Series = list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One quantity over the steps.

    Attributes:
        training: metrics of the training batches, the first that the run has is drawn.
        validation: its name under ``val/test_score/``, "" for none.
    """

    title: str
    training: tuple[str, ...]
    validation: str = ""


PANELS = (
    Panel("Reward", ("critic/score/mean",), "reward"),
    Panel("EM", ("reward/em", "critic/metric/mean"), "EM"),
    Panel(f"Cost per question (tokens {TIMES} $/1M)", ("critic/cost/mean",), "cost"),
    Panel("Calls per question", ("env/number_of_valid_route", "reward/route_cnt"), "route_cnt"),
    Panel("Policy entropy (nats per token)", ("actor/entropy_loss",)),
    Panel("KL to the reference (per token)", ("critic/kl", "actor/kl_loss")),
)


def learning_curves(rows: Sequence[dict[str, Any]]) -> list[Markup]:
    """A figure per panel that the run has figures for."""
    sources = validation_sources(rows)
    figures = []
    for panel in PANELS:
        training = next((s for m in panel.training if (s := series(rows, m))), [])
        validation = [
            series(rows, f"{_VALIDATION}{panel.validation}/{source}") if panel.validation else []
            for source in sources
        ]
        if training or any(validation):
            figures.append(_figure(panel.title, training, validation, sources))
    return figures


def learning_section(rows: Sequence[dict[str, Any]]) -> Markup | None:
    """All curves of a run with their legends; None without any figures."""
    curves, llms = learning_curves(rows), llms_of(rows)
    if not curves:
        return None
    asked = llm_curves(rows, llms) or ""
    return join(curve_legend(rows), tag("div", *curves, asked, class_="panels"))


def llm_curves(rows: Sequence[dict[str, Any]], llms: Sequence[str]) -> Markup | None:
    """Calls a question to each LLM in training, smoothed; None without any figures.

    Args:
        llms: in the order that gives them their colours.
    """
    lines = {llm: _running_mean(series(rows, f"{_LLM_CALLS}{llm}")) for llm in llms}
    points = [point for line in lines.values() for point in line]
    if not points:
        return None
    x = _step_axis([step for step, _ in points])
    y = linear_axis([value for _, value in points], _BOTTOM, _TOP, count=4, from_zero=True)
    drawn = [draw_axes(x, y, "", "")]
    for llm, line in lines.items():
        drawn.append(_line(line, x, y, f"llm {colour_class(llm, llms)}"))
        for step, value in line[-1:]:
            hint = f"{llm}, step {step:g}: {value:.3g}"
            drawn.append(_dot(x(step), y(value), hint, colour_class(llm, llms)))
    return _panel("Calls per question to each LLM", drawn, llm_legend(llms))


def llms_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The pool's LLMs, in its order, as far as the metrics name them."""
    named = dict.fromkeys(
        name.removeprefix(prefix)
        for row in rows
        for name in row
        for prefix in (_LLM_CALLS, _LLM_SPENDING)
        if name.startswith(prefix)
    )
    return list(named)


def validation_sources(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Datasets that validation reports; ``all`` last, alone if there is only one dataset."""
    names = dict.fromkeys(
        metric.rsplit("/", 1)[1] for row in rows for metric in row if metric.startswith(_VALIDATION)
    )
    single = [name for name in names if name != "all"]
    return [*single, "all"] if len(single) != 1 and "all" in names else single


def series(rows: Sequence[dict[str, Any]], metric: str) -> Series:
    """(step, value) by step; where a run was resumed, the later value of a step counts."""
    points = {row["step"]: row[metric] for row in rows if row.get(metric) is not None}
    return sorted(points.items())


def _figure(
    title: str, training: Series, validation: Sequence[Series], sources: Sequence[str]
) -> Markup:
    points = [*training, *(point for line in validation for point in line)]
    x = _step_axis([step for step, _ in points])
    y = linear_axis([value for _, value in points], _BOTTOM, _TOP, count=4)
    drawn = [draw_axes(x, y, "", "")]
    if training:
        drawn.append(_line(training, x, y, "raw"))
        drawn.append(_line(_running_mean(training), x, y, "smooth"))
    for number, (line, source) in enumerate(zip(validation, sources, strict=True)):
        class_ = "val-all" if source == "all" else f"val-{number % _COLOURS}"
        if len(line) > 1:
            drawn.append(_line(line, x, y, f"val {class_}"))
        for step, value in line:
            hint = f"validation {source}, step {step:g}: {value:.4g}"
            drawn.append(_dot(x(step), y(value), hint, class_))
    return _panel(title, drawn)


def _panel(title: str, drawn: Sequence[Markup], legend: Markup | str = "") -> Markup:
    svg = tag(
        "svg",
        *drawn,
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        class_="chart",
        role="img",
        aria_label=f"{title} by training step",
    )
    return tag("figure", tag("figcaption", title), svg, legend)


def curve_legend(rows: Sequence[dict[str, Any]]) -> Markup:
    """What the lines are."""
    items = [tag("span", tag("i", class_="stroke smooth"), "training, running mean of 5 steps")]
    for number, source in enumerate(validation_sources(rows)):
        class_ = "val-all" if source == "all" else f"val-{number % _COLOURS}"
        name = "all validation questions" if source == "all" else source
        items.append(tag("span", tag("i", class_=f"stroke {class_}"), f"validation: {name}"))
    return tag("p", *items, class_="legend")


def _step_axis(steps: Sequence[float]) -> Axis:
    """Whole steps, without room at the ends."""
    axis = linear_axis(steps, _LEFT, _RIGHT)
    low, high = min(steps), max(steps)
    if high == low:  # the first step: there is room for the next
        return Axis(low, low + 1, _LEFT, _RIGHT, (low,))
    ticks = tuple(tick for tick in axis.ticks if low <= tick <= high and tick == int(tick))
    return Axis(low, high, _LEFT, _RIGHT, ticks)


def _line(points: Series, x: Axis, y: Axis, class_: str) -> Markup:
    path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
    return tag("polyline", points=path, class_=f"line {class_}")


def _dot(x: float, y: float, hint: str, class_: str) -> Markup:
    return tag("circle", tag("title", hint), cx=x, cy=y, r=3.5, class_=f"dot {class_}")


def _running_mean(points: Series) -> Series:
    means = []
    for i, (step, _) in enumerate(points):
        window = [value for _, value in points[max(0, i - _SMOOTHING + 1) : i + 1]]
        means.append((step, sum(window) / len(window)))
    return means
