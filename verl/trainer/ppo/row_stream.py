"""The order in which training takes rows of its data.

Guarantees: the order is that of :func:`~verl.utils.dataset.epoch_batches`, however many rows are
taken at a time; each is taken once an epoch, and :attr:`RowStream.taken` says how far it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from verl.utils.dataset import epoch_batches


class RowStream:
    """Endless rows, epoch after epoch.

    Args:
        size: rows of the data.
        batch_size: rows of a step; what is left of an epoch that does not fill a step is dropped.
        seed, shuffle: see :func:`~verl.utils.dataset.epoch_batches`.
        taken: go on after so many.

    Attributes:
        taken: rows so far.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, shuffle: bool, taken: int = 0
    ) -> None:
        self._rows = _rows(size, batch_size, seed, shuffle)
        self.taken = len(self._take(taken))

    def take(self, count: int) -> list[int]:
        """The next ``count``."""
        self.taken += count
        return self._take(count)

    def _take(self, count: int) -> list[int]:
        return list(islice(self._rows, count))


def _rows(size: int, batch_size: int, seed: int, shuffle: bool) -> Iterator[int]:
    for _, batch in epoch_batches(size, batch_size, seed, shuffle):
        yield from batch
