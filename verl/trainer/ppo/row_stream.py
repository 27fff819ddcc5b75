"""The order in which training takes rows of its data.

Guarantees: the order is that of :func:`~verl.utils.dataset.epoch_rows`, however many rows are
taken at a time; each is taken once an epoch, and :attr:`RowStream.taken` says how far it is. Rows
that came back are taken first.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from verl.utils.dataset import epoch_rows


class RowStream:
    """Endless rows, epoch after epoch.

    Args:
        size: rows of the data.
        batch_size: rows of a step; what is left of an epoch that does not fill a step is dropped.
        seed, shuffle: see :func:`~verl.utils.dataset.epoch_rows`.

    Attributes:
        taken: rows so far.
        returned: rows among them that were of no use yet; they are the next.
    """

    def __init__(self, size: int, batch_size: int, seed: int, shuffle: bool) -> None:
        self._arguments = (size, batch_size, seed, shuffle)
        self._rows = epoch_rows(*self._arguments)
        self.taken = 0
        self.returned: list[int] = []

    def take(self, count: int) -> list[int]:
        """The next ``count``."""
        again, self.returned = self.returned[:count], self.returned[count:]
        fresh = list(islice(self._rows, count - len(again)))
        self.taken += len(fresh)
        return again + fresh

    def state_dict(self) -> dict[str, Any]:
        """How many rows were taken, and which came back."""
        return {"taken": self.taken, "returned": list(self.returned)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after so many."""
        self.taken = state["taken"]
        self.returned = list(state.get("returned", ()))  # older checkpoints have none
        self._rows = islice(epoch_rows(*self._arguments), self.taken, None)
