"""Axes of the charts: where values lie in pixels, and which ticks to draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router_r1.evaluation.report.markup import Markup, join, tag

_LOG_RATIO = 15


@dataclass(frozen=True)
class Axis:
    """Maps [low, high] to the pixels from ``start`` to ``end``.

    Attributes:
        ticks: values to mark, all in [low, high].
        log: logarithmic; then low > 0.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of ``value``."""
        f: Callable[[float], float] = math.log if self.log else float
        share = (f(value) - f(self.low)) / (f(self.high) - f(self.low))
        return self.start + share * (self.end - self.start)


def linear_axis(
    values: Sequence[float], start: float, end: float, count: int = 5, from_zero: bool = False
) -> Axis:
    """An axis with about ``count`` round ticks that covers ``values``, with some room."""
    low, high = min(values), max(values)
    if from_zero:
        low = min(0.0, low)
    if high - low < 1e-12:
        low, high = low - max(abs(low) * 0.1, 1e-9), high + max(abs(high) * 0.1, 1e-9)
    step = _round_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(i * step, 12) for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], start, end, ticks)


def cost_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """Logarithmic if all values are positive and far apart, else linear from zero."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < _LOG_RATIO:
        return linear_axis(values, start, end, from_zero=True)
    low, high = low / 1.3, high * 1.3
    candidates = [
        digit * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digit in (1, 2, 5)
    ]
    ticks = tuple(tick for tick in candidates if low <= tick <= high)
    return Axis(low, high, start, end, ticks, log=True)


def draw_axes(
    x: Axis, y: Axis, x_title: str, y_title: str, x_format: Callable[[float], str] = "{:g}".format
) -> Markup:
    """Grid, tick labels and titles."""
    parts: list[Markup] = []
    for tick in y.ticks:
        at = y(tick)
        parts.append(tag("line", x1=x.start, x2=x.end, y1=at, y2=at, class_="grid"))
        parts.append(
            tag("text", f"{tick:g}", x=x.start - 8, y=at + 4, class_="tick", text_anchor="end")
        )
    for tick in x.ticks:
        at = x(tick)
        parts.append(tag("line", x1=at, x2=at, y1=y.start, y2=y.start + 4, class_="axis"))
        parts.append(
            tag("text", x_format(tick), x=at, y=y.start + 18, class_="tick", text_anchor="middle")
        )
    parts.append(tag("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"))
    middle = (x.start + x.end) / 2
    if x_title:
        parts.append(
            tag("text", x_title, x=middle, y=y.start + 38, class_="label", text_anchor="middle")
        )
    if y_title:
        parts.append(tag("text", y_title, x=x.start, y=y.end - 12, class_="label"))
    return join(*parts)


def _round_step(step: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * (1 - 1e-9))
