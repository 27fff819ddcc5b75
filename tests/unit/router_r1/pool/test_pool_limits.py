from __future__ import annotations

import asyncio
import email.utils
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_r1.pool.budget import Budget
from router_r1.pool.limits import AdaptiveLimiter, CircuitBreaker
from router_r1.pool.refusal import parse_retry_after


def test_the_window_bounds_calls_at_once_and_serves_in_order() -> None:
    async def run() -> tuple[int, list[int]]:
        limiter = AdaptiveLimiter(concurrency=3)
        running, most, order = 0, 0, []

        async def call(number: int) -> None:
            nonlocal running, most
            async with limiter.slot(5.0):
                order.append(number)
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.002)
                running -= 1

        await asyncio.gather(*(call(i) for i in range(30)))
        return most, order

    most, order = asyncio.run(run())
    assert most == 3
    assert order == list(range(30))


def test_429s_halve_the_window_once_a_round_and_successes_widen_it() -> None:
    async def run() -> None:
        limiter = AdaptiveLimiter(concurrency=16)
        started = time.monotonic()
        for _ in range(16):  # one round of calls, all refused
            limiter.throttle(started)
        assert limiter.window == 8
        limiter.throttle(time.monotonic())
        assert limiter.window == 4
        for _ in range(100):
            limiter.throttle(time.monotonic())
        assert limiter.window == 1, "one call can always go"
        for _ in range(500):
            limiter.widen()
        assert limiter.window == 16

    asyncio.run(run())


def test_a_place_that_never_comes_free_times_out_and_costs_none() -> None:
    async def run() -> None:
        limiter = AdaptiveLimiter(concurrency=1)
        async with limiter.slot(1.0):
            with pytest.raises(TimeoutError):
                async with limiter.slot(0.01):
                    raise AssertionError("there was no place")
        async with limiter.slot(0.01):
            assert limiter.window == 1

    asyncio.run(run())


def test_a_caller_that_gives_up_leaves_the_queue() -> None:
    async def run() -> None:
        limiter = AdaptiveLimiter(concurrency=1)

        async def wait() -> None:
            async with limiter.slot(5.0):
                await asyncio.sleep(0)

        async with limiter.slot(1.0):
            waiting = [asyncio.create_task(wait()) for _ in range(4)]
            await asyncio.sleep(0.01)
            waiting[0].cancel()
            waiting[2].cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(d, asyncio.CancelledError) for d in done] == [True, False, True, False]

    asyncio.run(run())


def test_starts_keep_the_rate_and_the_pause() -> None:
    async def run() -> None:
        limiter = AdaptiveLimiter(concurrency=8, requests_per_minute=600)
        waits = [limiter.seconds_to_start() for _ in range(4)]
        assert waits == pytest.approx([0.0, 0.1, 0.2, 0.3], abs=0.01)
        limiter.pause(5.0)
        assert limiter.seconds_to_start() == pytest.approx(5.0, abs=0.01)
        limiter.pause(1e9)
        assert limiter.seconds_to_start() <= 61, "an endpoint cannot stop us for good"

    asyncio.run(run())


def test_the_breaker_opens_lets_one_try_and_closes() -> None:
    breaker = CircuitBreaker(failures=3, cooldown_s=0.05)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.admits()
        breaker.failed()
    assert not breaker.admits()
    time.sleep(0.06)
    assert breaker.admits()
    assert not breaker.admits(), "one at a time"
    breaker.abandoned()
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()
    time.sleep(0.06)
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()


@settings(max_examples=40, deadline=None)
@given(
    calls=st.lists(st.tuples(st.floats(0.01, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=30),
    limit=st.floats(0.1, 5.0),
)
def test_no_order_of_calls_overspends_and_none_waits_for_ever(
    calls: list[tuple[float, float]], limit: float
) -> None:
    """Each call may cost ``most`` and in the end costs a share of it."""

    async def run() -> tuple[float, list[bool]]:
        budget = Budget(limit)

        async def call(most: float, share: float) -> bool:
            if not await budget.reserve(most):
                return False
            await asyncio.sleep(0)
            budget.settle(most, most * share)
            return True

        sent = await asyncio.wait_for(asyncio.gather(*(call(*c) for c in calls)), 5.0)
        assert budget.exhausted == (not all(sent))
        return budget.spent_usd, sent

    spent, sent = asyncio.run(run())
    assert spent <= limit + 1e-9
    expected = sum(m * s for (m, s), was_sent in zip(calls, sent, strict=True) if was_sent)
    assert spent == pytest.approx(expected)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert parse_retry_after(None) == 0.0
    assert parse_retry_after("1.5") == 1.5
    assert parse_retry_after("-3") == 0.0
    assert parse_retry_after("soon") == 0.0
    assert parse_retry_after("nan") == 0.0
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert parse_retry_after(date) == pytest.approx(30, abs=2)
