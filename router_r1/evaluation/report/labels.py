"""Places the names of points in a chart where they hide least."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from router_r1.evaluation.report.markup import Markup, tag

_CHARACTER, _LINE = 6.3, 14.0  # pixels of a character and of a line
# Where a label may stand, relative to its point: (dx, dy, anchor), best first.
ABOVE_OR_BELOW = ((0, -12, "middle"), (0, 21, "middle"), (0, -26, "middle"), (0, 35, "middle"))
ANYWHERE = (
    (11, 4, "start"),
    (-11, 4, "end"),
    *ABOVE_OR_BELOW,
    (9, -9, "start"),
    (9, 17, "start"),
    (-9, -9, "end"),
    (-9, 17, "end"),
)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Area in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def outside(self, other: Box) -> float:
        """How far it sticks out of ``other``."""
        return (
            max(0.0, other.left - self.left)
            + max(0.0, self.right - other.right)
            + max(0.0, other.top - self.top)
            + max(0.0, self.bottom - other.bottom)
        )


@dataclass(frozen=True)
class Label:
    """A name and its point."""

    text: str
    class_: str
    x: float
    y: float
    places: Sequence[tuple[float, float, str]] = ANYWHERE


def around(x: float, y: float, radius: float) -> Box:
    """What a mark covers."""
    return Box(x - radius, y - radius, x + radius, y + radius)


def along(points: Sequence[tuple[float, float]], spacing: float = 6.0) -> list[Box]:
    """What a line through ``points`` covers."""
    boxes = []
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        count = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) / spacing))
        for i in range(count + 1):
            share = i / count
            boxes.append(around(x0 + share * (x1 - x0), y0 + share * (y1 - y0), spacing / 2))
    return boxes


def place(labels: Sequence[Label], taken: Sequence[Box], frame: Box) -> list[Markup]:
    """Each label, the first ones first, where it covers least of what is taken already."""
    boxes = list(taken)
    drawn = []
    for label in labels:
        choices = [_at(label, *offset) for offset in label.places]
        badness = [
            sum(box.overlap(other) for other in boxes) + 100 * box.outside(frame)
            for box, _, _, _ in choices
        ]
        box, x, y, anchor = choices[badness.index(min(badness))]
        boxes.append(box)
        drawn.append(tag("text", label.text, x=x, y=y, text_anchor=anchor, class_=label.class_))
    return drawn


def _at(label: Label, dx: float, dy: float, anchor: str) -> tuple[Box, float, float, str]:
    width = len(label.text) * _CHARACTER
    x, y = label.x + dx, label.y + dy
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return Box(left, y - _LINE + 3, left + width, y + 3), x, y, anchor
