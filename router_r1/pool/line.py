"""The line to one LLM: its place in the queue, its pauses, its attempts.

Guarantees: a call waits for places and pauses ``queue_timeout_s`` at most, and sends for
``request_timeout_s`` at most, retries and the time between them included; a pause that the
endpoint asks for is part of waiting and uses up no retry; limits and circuit breaker learn from
every attempt, and hold whatever callers do.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.endpoint import Endpoint
from router_r1.pool.limits import AdaptiveLimiter, CircuitBreaker
from router_r1.pool.outcome import Attempt, Outcome
from router_r1.pool.recording import Request
from router_r1.pool.tools.member import Tool

logger = logging.getLogger(__name__)

# What only the pool file or the account can mend, and how, where an attempt does not tell.
_ADVICE = {
    Outcome.REFUSED: "check its model name, key and request options",
    Outcome.EMPTY: "check base_url",
    Outcome.MALFORMED: "check base_url",
}
_FAILURES = (Outcome.SERVER_ERROR, Outcome.CONNECTION_ERROR, Outcome.TIMEOUT)


@dataclass
class TimeLeft:
    """Seconds that a call may still spend: waiting, in pauses that limits and endpoint ask for, of
    which the wait for a place is already taken; and sending, on requests and the time between."""

    waiting_s: float
    sending_s: float


class Line:
    """Sends requests to one LLM.

    Args:
        turn: shared by all lines of a client; orders the starts of requests.
        rng: spreads retries.
    """

    def __init__(
        self,
        llm: LLMConfig,
        pool: PoolConfig,
        endpoint: Endpoint | Tool,
        turn: asyncio.Lock,
        rng: random.Random,
    ) -> None:
        self._endpoint = endpoint
        self._llm = llm
        self._pool = pool
        self._turn = turn
        self._rng = rng
        self._limiter = AdaptiveLimiter(
            llm.concurrency, llm.requests_per_minute, pool.queue_timeout_s
        )
        self._breaker = CircuitBreaker(pool.breaker_failures, pool.breaker_cooldown_s)
        self._warned: set[tuple[Outcome, str]] = set()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[TimeLeft]:
        """A place among the calls in flight, with the time that the call has left; raises
        :class:`TimeoutError` if none comes free in time."""
        start = time.monotonic()
        async with self._limiter.slot(self._pool.queue_timeout_s):
            waited = time.monotonic() - start
            yield TimeLeft(self._pool.queue_timeout_s - waited, self._pool.request_timeout_s)

    async def call(self, request: Request, left: TimeLeft) -> Attempt:
        """Sends until the call has ended; to be awaited in a place."""
        last = Attempt(Outcome.UNAVAILABLE)
        retries = 0
        while not self._breaker.is_open:
            if not await self._wait_to_start(left):
                if last.outcome is Outcome.UNAVAILABLE:  # nothing was sent yet
                    last = Attempt(Outcome.RATE_LIMITED)
                break
            if not self._breaker.admits():
                break
            last = await self._send_once(request, left)
            if not last.retry:
                break
            if last.retry_after_s > 0:
                rested = await self._rest_as_asked(last.retry_after_s, left)
            else:
                rested = await self._back_off(retries, left)
                retries += 1
            if not rested:
                break
        self._warn(last)
        return last

    async def _back_off(self, retries: int, left: TimeLeft) -> bool:
        """Lets a failure pass; False if the call has no retry or no time left for it."""
        seconds = self._pool.retry_backoff_s * 2**retries * self._rng.uniform(0.5, 1.5)
        if retries >= self._pool.max_retries or seconds > left.sending_s:
            return False
        await asyncio.sleep(seconds)
        left.sending_s -= seconds
        return True

    async def _rest_as_asked(self, pause_s: float, left: TimeLeft) -> bool:
        """Rests briefly; False if the call has no time for the pause, or to send again.

        The pause itself holds for all calls (:meth:`_wait_to_start`); the rest bounds how often a
        call is sent where the endpoint asks for next to no pause.
        """
        seconds = self._pool.retry_backoff_s * self._rng.uniform(0.5, 1.5)
        if max(pause_s, seconds) > left.waiting_s or left.sending_s <= 0:
            return False
        await asyncio.sleep(seconds)
        left.waiting_s -= seconds
        return True

    async def _wait_to_start(self, left: TimeLeft) -> bool:
        """Waits until limits and pauses let a request start; False if that is too long."""
        wait = self._limiter.seconds_to_start()
        while wait > 0:
            if wait > left.waiting_s:
                return False
            await asyncio.sleep(wait)
            left.waiting_s -= wait
            wait = self._limiter.seconds_paused()  # another call may have been told to wait
        return True

    async def _send_once(self, request: Request, left: TimeLeft) -> Attempt:
        """One attempt; limiter and breaker learn from it."""
        try:
            # One start per pass of the event loop. Replies that came together would else send
            # their successors together, each waiting for all; a seventh of the throughput
            # (benchmarks/pool_throughput.py).
            async with self._turn:
                await asyncio.sleep(0)
            started = time.monotonic()
            async with asyncio.timeout(left.sending_s):
                attempt = await self._endpoint.send(
                    request, self._llm.max_tokens, self._llm.request.stream_fields()
                )
        except TimeoutError:
            attempt = Attempt(Outcome.TIMEOUT)
        except asyncio.CancelledError:
            self._breaker.abandoned()
            raise
        left.sending_s -= time.monotonic() - started
        if attempt.outcome in _FAILURES:
            self._breaker.failed()
        else:
            self._breaker.succeeded()
        if attempt.retry_after_s > 0:
            self._limiter.pause(attempt.retry_after_s)
        if attempt.outcome is Outcome.RATE_LIMITED:
            self._limiter.throttle(started)
        elif attempt.outcome is Outcome.OK:
            self._limiter.widen()
        return attempt

    def _warn(self, attempt: Attempt) -> None:
        """Says once what is to be mended by hand."""
        if attempt.outcome not in _ADVICE or (attempt.outcome, attempt.advice) in self._warned:
            return
        self._warned.add((attempt.outcome, attempt.advice))
        words, advice = attempt.detail or "no words", attempt.advice or _ADVICE[attempt.outcome]
        logger.warning(
            "%s: %s call (%s); %s. Further ones are counted only.",
            *(self._llm.name, attempt.outcome.value, words, advice),
        )
