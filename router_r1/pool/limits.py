"""Limits of one LLM: calls at once, calls a minute, and what the endpoint's 429s ask for.

Guarantees: never more calls at once than the window, which 429s halve and successes widen again up
to the configured limit; attempts start no closer together than the rate allows; nothing starts
while the endpoint asked for a pause; callers are served in order.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class AdaptiveLimiter:
    """Additive increase, multiplicative decrease (Chiu and Jain 1989) of concurrency.

    Args:
        concurrency: the widest window.
        longest_pause_s: a pause that an endpoint asks for is honoured up to this; it will say so
            again.
    """

    def __init__(
        self,
        concurrency: int,
        requests_per_minute: float | None = None,
        longest_pause_s: float = 60.0,
    ) -> None:
        self._longest_pause_s = longest_pause_s
        self._widest = concurrency
        self._interval = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._window = float(concurrency)
        self._in_flight = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._next_start = 0.0
        self._paused_until = 0.0
        self._last_cut = -1.0

    @property
    def window(self) -> int:
        """Calls that may be in flight now."""
        return int(self._window)

    @asynccontextmanager
    async def slot(self, timeout_s: float) -> AsyncIterator[None]:
        """A place among the calls in flight, for as long as the block lasts; raises
        :class:`TimeoutError` if none is free within ``timeout_s``."""
        if self._queue or self._in_flight >= self.window:
            await self._wait_in_queue(timeout_s)
        else:
            self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._admit()

    async def _wait_in_queue(self, timeout_s: float) -> None:
        """Returns with a place, which whoever gave it has counted already."""
        place = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            async with asyncio.timeout(timeout_s):
                await place
        except BaseException:
            if place.done() and not place.cancelled():  # given just now: pass it on
                self._in_flight -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        """Gives free places to the first in the queue; who has given up is passed over."""
        while self._queue and self._in_flight < self.window:
            place = self._queue.popleft()
            if not place.cancelled():
                self._in_flight += 1
                place.set_result(None)

    def seconds_to_start(self) -> float:
        """How long an attempt that starts next must wait; books the start."""
        now = time.monotonic()
        start = max(now, self._paused_until, self._next_start)
        self._next_start = start + self._interval
        return start - now

    def seconds_paused(self) -> float:
        """How much of the pause that the endpoint asked for is left."""
        return max(0.0, self._paused_until - time.monotonic())

    def widen(self) -> None:
        """After a success: one more place per window of successes."""
        self._window = min(self._widest, self._window + 1.0 / self._window)
        self._admit()

    def pause(self, seconds: float) -> None:
        """Nothing starts for so long, since the endpoint asks for it."""
        until = time.monotonic() + min(seconds, self._longest_pause_s)
        self._paused_until = max(self._paused_until, until)

    def throttle(self, started: float) -> None:
        """After a 429 to an attempt that began at ``started`` (monotonic seconds): the window is
        halved, unless that was before the last cut, so that the 429 says nothing new."""
        if started > self._last_cut:
            self._last_cut = time.monotonic()
            self._window = max(1.0, self._window / 2)
