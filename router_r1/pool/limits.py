"""Limits of one LLM: calls at once, calls a minute, what the endpoint's 429s ask for, and a circuit
breaker that leaves alone for a while what keeps failing.

Guarantees: never more calls at once than the window, which 429s halve and successes widen again up
to the configured limit; attempts start no closer together than the rate allows; nothing starts
while the endpoint asked for a pause; callers are served in order; after too many failed attempts in
a row no attempt is admitted for a while, then one alone may try, and its result decides.
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


class CircuitBreaker:
    """Closed, open, or half open with one attempt under way."""

    def __init__(self, failures: int, cooldown_s: float) -> None:
        self._allowed_failures = failures
        self._cooldown_s = cooldown_s
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether no attempt may be made now."""
        if self._failures < self._allowed_failures:
            return False
        return self._probing or time.monotonic() < self._open_until

    def admits(self) -> bool:
        """Whether an attempt may be made now; its result must be told."""
        if self.is_open:
            return False
        self._probing = self._failures >= self._allowed_failures
        return True

    def succeeded(self) -> None:
        """Closes the breaker: an attempt got an answer."""
        self._failures = 0
        self._probing = False

    def failed(self) -> None:
        """Counts an attempt without an answer; opens the breaker once too many came in a row."""
        self._failures += 1
        self._probing = False
        if self._failures >= self._allowed_failures:
            self._open_until = time.monotonic() + self._cooldown_s

    def abandoned(self) -> None:
        """Ends an attempt that the caller gave up, which says nothing of the endpoint."""
        self._probing = False
