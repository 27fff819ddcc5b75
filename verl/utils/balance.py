"""Divides sequences into parts that cost alike, so that no rank and no pass waits for another.

Guarantees: every item is in exactly one part; the same costs are divided alike wherever they are.
A sequence costs its tokens.

Longest first, each to the cheapest part that has room (Graham 1969, "Bounds on multiprocessing
timing anomalies"); then the dearest part swaps items with others as long as that makes it cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Swaps before the parts count as even enough; each takes a look at all pairs of two parts.
_MAX_SWAPS = 64
_EVEN = 1e-3


def balanced_parts(
    costs: Sequence[int], parts: int, sizes: Sequence[int] | None = None
) -> list[list[int]]:
    """Indices of each part, ascending.

    Args:
        costs: of each item, >= 0.
        parts: how many, >= 1; some are empty where there are fewer items.
        sizes: how many items each part holds, as many as there are in all, else this raises
            :class:`ValueError`; None leaves that open.
    """
    if sizes is not None and (len(sizes) != parts or sum(sizes) != len(costs)):
        raise ValueError(f"{len(costs)} items do not fill {parts} parts of {list(sizes)}")
    of_item = np.asarray(costs, dtype=np.int64)
    room = np.array(sizes if sizes is not None else [len(costs)] * parts)
    total = np.zeros(parts, dtype=np.int64)
    found: list[list[int]] = [[] for _ in range(parts)]
    for item in np.argsort(-of_item, kind="stable").tolist():
        part = int(np.argmin(np.where(room > 0, total, np.iinfo(np.int64).max)))
        found[part].append(item)
        total[part] += of_item[item]
        room[part] -= 1
    _swap_until_even(found, of_item)
    return [sorted(part) for part in found]


def balanced_order(costs: Sequence[int], parts: int) -> list[int]:
    """An order of all items whose ``parts`` consecutive pieces of equal length cost alike; where
    the length does not divide, the last piece is what is left."""
    length = -(-len(costs) // parts)
    sizes = [max(0, min(length, len(costs) - length * part)) for part in range(parts)]
    return [item for part in balanced_parts(costs, parts, sizes) for item in part]


def _swap_until_even(parts: list[list[int]], costs: np.ndarray) -> None:
    """In place: pairs of items change places between the dearest part and the others, the cheapest
    first."""
    totals = np.array([int(costs[part].sum()) for part in parts])
    for _ in range(_MAX_SWAPS):
        dearest = int(totals.argmax())
        if totals[dearest] <= totals.mean() * (1 + _EVEN):
            return
        for other in np.argsort(totals, kind="stable").tolist():
            gap = int(totals[dearest] - totals[other])
            pair = _best_pair(costs[parts[dearest]], costs[parts[other]], gap)
            if pair is not None:
                break
        else:
            return
        mine, theirs = parts[dearest], parts[other]
        a, b = mine[pair[0]], theirs[pair[1]]
        mine[pair[0]], theirs[pair[1]] = b, a
        moved = int(costs[a] - costs[b])
        totals[dearest] -= moved
        totals[other] += moved


def _best_pair(mine: np.ndarray, theirs: np.ndarray, gap: int) -> tuple[int, int] | None:
    """Positions of the two items whose swap brings the totals closest; None if none helps."""
    if gap <= 0 or not len(mine) or not len(theirs):
        return None
    moved = mine[:, None] - theirs[None, :]
    off = np.abs(2 * moved - gap)
    best = int(off.argmin())
    row, column = divmod(best, len(theirs))
    return (row, column) if off[row, column] < gap else None
