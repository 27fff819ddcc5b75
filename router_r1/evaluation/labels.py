"""Places labels beside points so that they cover neither each other nor a point nor a line.

Greedy: the most crowded point chooses first, and each takes the nearest free place around its
point. Guarantees: no two labels overlap as long as a free place is left for each; the same input
gives the same places.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

_MARK_RADIUS = 7.0
_STROKE = 2.0
_STEP = 8.0
_PADDING = 2.0
_DISTANCES = (9, 16, 26, 38, 52, 70, 90, 115, 145)
# The right first, then in turns above and below it.
_ANGLES = 2 * np.pi / 16 * np.array([0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7, 8])


def place_labels(
    points: ArrayLike, sizes: ArrayLike, frame: ArrayLike, lines: Sequence[ArrayLike] = ()
) -> np.ndarray:
    """Where each point's label goes: (labels, 4), the corners x0, y0, x1, y1, in pixels.

    Args:
        points: (labels, 2) marks.
        sizes: (labels, 2) width and height of each label.
        frame: corners; labels stay in it where they can.
        lines: (corners, 2) each, one corner or more, of what is drawn between the marks.
    """
    points = np.asarray(points, dtype=float)
    strokes = [_around(np.stack(_walk(line)), _STROKE) for line in lines]
    taken = np.concatenate([*strokes, _around(points, _MARK_RADIUS)])
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    placed = np.zeros((len(points), 4))
    for i in np.argsort(-(1 / (20 + distances)).sum(axis=1), kind="stable"):
        places = _places_around(points[i], np.asarray(sizes, dtype=float)[i])
        padded = places + np.array([-1, -1, 1, 1]) * _PADDING
        covered = _overlap(padded[:, None], taken).sum(axis=1)
        outside = _overlap(places, places) - _overlap(places, np.asarray(frame, dtype=float))
        placed[i] = places[np.argmin(covered + 4 * outside)]
        taken = np.vstack([taken, placed[i]])
    return placed


def _walk(line: ArrayLike) -> list[np.ndarray]:
    """Points along a line, closer than a label is high."""
    corners = np.asarray(line, dtype=float)
    walked = [corners[0]]
    for start, end in pairwise(corners):
        steps = max(1, int(np.linalg.norm(end - start) / _STEP))
        walked += list(np.linspace(start, end, steps + 1))
    return walked


def _around(points: np.ndarray, by: float) -> np.ndarray:
    return np.hstack([points - by, points + by])


def _places_around(point: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(places, 4), nearer ones first: a label hangs on a ring by the side that faces the point."""
    ring = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    low = np.concatenate([point + r * ring - size * (1 - ring) / 2 for r in _DISTANCES])
    return np.hstack([low, low + size])


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area that boxes share; both (…, 4), broadcast."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    area: np.ndarray = np.clip(sides, 0, None).prod(axis=-1)
    return area
