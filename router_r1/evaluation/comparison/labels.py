"""Places labels beside points so that they cover neither each other nor a point nor a line.

Greedy: the most crowded point chooses first, and each takes the nearest free place around its
point. Guarantees: no two labels overlap as long as a free place is left for each; the same input
gives the same places.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Coordinates = tuple[float, float]
_MARK_RADIUS = 7.0
_STROKE = 2.0
_STEP = 8.0
_PADDING = 2.0
_DISTANCES = (9, 16, 26, 38, 52, 70, 90, 115, 145)
_ANGLES = 16


@dataclass(frozen=True)
class Box:
    """An upright rectangle, in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: Box) -> float:
        """Area that both cover."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(0.0, width) * max(0.0, height)

    def nearest(self, point: Coordinates) -> Coordinates:
        """The point of the box that is nearest to ``point``."""
        return (
            min(max(point[0], self.x0), self.x1),
            min(max(point[1], self.y0), self.y1),
        )

    def distance_to(self, point: Coordinates) -> float:
        """From ``point`` to the box; 0 inside."""
        return math.dist(point, self.nearest(point))

    def grown(self, by: float) -> Box:
        """The box with a border around it."""
        return Box(self.x0 - by, self.y0 - by, self.x1 + by, self.y1 + by)


def place_labels(
    points: Sequence[Coordinates],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    lines: Sequence[Sequence[Coordinates]] = (),
) -> list[Box]:
    """Where each point's label goes.

    Args:
        points: marks, in pixels.
        sizes: width and height of each label.
        frame: labels stay in it where they can.
        lines: corners of what is drawn between the marks.
    """
    strokes = [Box(x, y, x, y).grown(_STROKE) for line in lines for x, y in _walk(line)]
    marks = [Box(x, y, x, y).grown(_MARK_RADIUS) for x, y in points]
    placed: dict[int, Box] = {}
    for i in sorted(range(len(points)), key=lambda i: (-_crowding(points, i), i)):
        obstacles = [*strokes, *marks, *placed.values()]
        placed[i] = min(
            _candidates(points[i], sizes[i]),
            key=lambda ranked: (_badness(ranked[1], obstacles, frame), ranked[0]),
        )[1]
    return [placed[i] for i in range(len(points))]


def _walk(line: Sequence[Coordinates]) -> Iterator[Coordinates]:
    """Points along a line, closer than a label is high."""
    for start, end in itertools.pairwise(line):
        steps = max(1, int(math.dist(start, end) / _STEP))
        for step in range(steps + 1):
            share = step / steps
            yield (
                start[0] + share * (end[0] - start[0]),
                start[1] + share * (end[1] - start[1]),
            )


def _crowding(points: Sequence[Coordinates], i: int) -> float:
    return sum(1 / (20 + math.dist(points[i], other)) for other in points)


def _candidates(point: Coordinates, size: tuple[float, float]) -> Iterator[tuple[int, Box]]:
    """Places by rank: nearer first, and to the right first."""
    rank = 0
    for distance in _DISTANCES:
        for turn in range(_ANGLES):
            # 0, 1, -1, 2, -2, … steps from the right.
            step = (turn + 1) // 2 * (1 if turn % 2 else -1)
            angle = 2 * math.pi * step / _ANGLES
            cos, sin = math.cos(angle), math.sin(angle)
            # The label hangs on the ring by the side or corner that faces the point.
            x = point[0] + distance * cos - size[0] * (1 - cos) / 2
            y = point[1] + distance * sin - size[1] * (1 - sin) / 2
            yield rank, Box(x, y, x + size[0], y + size[1])
            rank += 1


def _badness(box: Box, obstacles: Sequence[Box], frame: Box) -> float:
    """Area covered that is taken or outside."""
    covered = sum(box.grown(_PADDING).overlap(obstacle) for obstacle in obstacles)
    area = (box.x1 - box.x0) * (box.y1 - box.y0)
    return covered + 4 * (area - box.overlap(frame))
