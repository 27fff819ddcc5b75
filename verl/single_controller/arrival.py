"""Waiting for many Ray calls under one time limit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray


class NotArrivedError(Exception):
    """The time limit passed; ``pending`` are the indices of the calls that had not ended."""

    def __init__(self, pending: list[int]) -> None:
        super().__init__(f"calls {pending} have not ended")
        self.pending = pending


def in_order_of_arrival(references: Sequence[Any], timeout_s: float | None = None) -> Iterator[int]:
    """Index of each call as it ends, failed ones included; ``ray.get`` tells how it ended.

    Each reference is of a single result. Raises :class:`NotArrivedError` once ``timeout_s`` has
    passed, which is for all of them together; None waits without limit.
    """
    index_of = {reference: index for index, reference in enumerate(references)}
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pending = list(references)
    while pending:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        arrived, pending = ray.wait(pending, num_returns=1, timeout=left)
        if not arrived:
            raise NotArrivedError(sorted(index_of[reference] for reference in pending))
        yield index_of[arrived[0]]
