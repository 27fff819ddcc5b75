"""How many requests run, and how many may wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router_r1.serve.errors import APIError
from router_r1.serve.metrics import Metrics


class Admission:
    """At most ``max_concurrency`` requests run, ``max_queue`` more wait, first come first served;
    ``metrics`` are told how many there are of both."""

    def __init__(self, max_concurrency: int, max_queue: int, metrics: Metrics) -> None:
        self._running = asyncio.Semaphore(max_concurrency)
        self._max_queue = max_queue
        self._metrics = metrics

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for a place and holds it; raises an :class:`APIError` 429 if the queue is full."""
        if self._running.locked() and self._metrics.queued >= self._max_queue:
            raise APIError(
                429,
                "too many requests are waiting; try again later",
                "rate_limit_exceeded",
                "requests",
            )
        self._metrics.queued += 1
        try:
            await self._running.acquire()
        finally:
            self._metrics.queued -= 1
        self._metrics.in_flight += 1
        try:
            yield
        finally:
            self._metrics.in_flight -= 1
            self._running.release()
