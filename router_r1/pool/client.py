"""The asynchronous client that asks the pool's LLMs.

Guarantees: every call ends in one typed outcome, within ``queue_timeout_s`` for a free place and
``request_timeout_s`` from there on; nothing but cancellation is raised; a failed call costs
nothing; limits, circuit breaker and budget hold whatever callers do. One event loop per client.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace

import openai

from router_r1.pool.breaker import CircuitBreaker
from router_r1.pool.budget import Budget
from router_r1.pool.config import QUERY_MARKER, LLMConfig, PoolConfig
from router_r1.pool.endpoint import Attempt, Endpoint, estimate_tokens
from router_r1.pool.health import PoolHealth
from router_r1.pool.ledger import Ledger
from router_r1.pool.limits import AdaptiveLimiter
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.recording import Recording, Request
from verl.errors import UserError

logger = logging.getLogger(__name__)

_CHECK_TIMEOUT_S = 10.0
_FAILURES = (Outcome.SERVER_ERROR, Outcome.CONNECTION_ERROR, Outcome.TIMEOUT)
# Chat templates add a few tokens to a message; a token is at least one byte.
_TEMPLATE_TOKENS = 64


class PoolUnreachableError(UserError):
    """An endpoint of the pool does not answer."""


class PoolClient:
    """Asks LLMs by name.

    Args:
        pool: the pool; ``pool.api_base`` must be set unless every LLM has its own.
        api_key: used instead of the environment variables, if given.
        count_tokens: tokens of a text, for endpoints that do not say what they bill.
    """

    def __init__(
        self,
        pool: PoolConfig,
        api_key: str | None = None,
        count_tokens: Callable[[str], int] = estimate_tokens,
    ) -> None:
        self._pool = pool
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        self._endpoint_of: dict[str, Endpoint] = {}
        for llm in pool.llms:
            self._endpoint_of[llm.name] = self._endpoint(llm, api_key, count_tokens)
        self._limiters = {
            llm.name: AdaptiveLimiter(llm.concurrency, llm.requests_per_minute) for llm in pool.llms
        }
        self._breakers = {
            llm.name: CircuitBreaker(pool.breaker_failures, pool.breaker_cooldown_s)
            for llm in pool.llms
        }
        self._recording = Recording(pool.recording) if pool.recording.mode != "off" else None
        self._rng = random.Random(0)
        self._turn = asyncio.Lock()
        self.budget = Budget(pool.budget_usd)
        self.ledger = Ledger([llm.name for llm in pool.llms])
        self.health = PoolHealth(pool.health, [llm.name for llm in pool.llms])

    def _endpoint(
        self, llm: LLMConfig, api_key: str | None, count_tokens: Callable[[str], int]
    ) -> Endpoint:
        base_url = llm.base_url or self._pool.api_base
        if not base_url:
            raise PoolUnreachableError(
                f"pool {self._pool.name!r} has no endpoint for {llm.name}: set pool.api_base or "
                "pass api_base=…"
            )
        key_variable = llm.api_key_env or self._pool.api_key_env
        place = (base_url, key_variable)
        if place not in self._endpoints:
            key = api_key or os.environ.get(key_variable)
            self._endpoints[place] = Endpoint(base_url, key_variable, key, count_tokens)
        return self._endpoints[place]

    async def check(self) -> None:
        """Asks each endpoint for its models.

        Raises:
            PoolUnreachableError: naming the URL that does not answer.
        """
        if self._recording is not None and not self._recording.sends:
            return
        for endpoint in self._endpoints.values():
            try:
                await endpoint.list_models(_CHECK_TIMEOUT_S)
            except openai.AuthenticationError:
                # The body may quote the key.
                raise PoolUnreachableError(
                    f"the pool endpoint {endpoint.base_url} refuses the key in "
                    f"${endpoint.key_variable}"
                ) from None
            except openai.APIConnectionError as error:
                raise PoolUnreachableError(
                    f"the pool endpoint {endpoint.base_url} does not answer: {error}; start it or "
                    "correct pool.api_base"
                ) from error
            except openai.APIStatusError as error:
                logger.warning(
                    "%s answers /models with status %d", endpoint.base_url, error.status_code
                )

    async def ask(self, name: str, query: str) -> CallResult:
        """Sends ``query`` to the LLM that ``name`` means; see the module's guarantees."""
        result = await self._ask(name, query)
        self.ledger.book(result)
        self.health.book(result)
        return result

    async def _ask(self, name: str, query: str) -> CallResult:
        llm = self._pool.resolve(name)
        if llm is None:
            return CallResult(name, Outcome.UNKNOWN_LLM)
        if not query.strip():
            return CallResult(llm.name, Outcome.INVALID_QUERY)
        request = self._request(llm, query)
        if self._recording is not None:
            recorded = self._recording.find(request, llm.name)
            if recorded is not None:
                return _priced(recorded, llm)
            if not self._recording.sends:
                return CallResult(llm.name, Outcome.NOT_RECORDED)
        return await self._call(llm, request)

    def _request(self, llm: LLMConfig, query: str) -> Request:
        content = f"{self._pool.instruction}\n\n{QUERY_MARKER}{query}"
        return Request(
            llm.model,
            [{"role": "user", "content": content}],
            {
                "temperature": llm.temperature,
                "top_p": 1.0,
                "seed": 42,
                "max_tokens": llm.max_tokens,
            },
        )

    async def _call(self, llm: LLMConfig, request: Request) -> CallResult:
        """Waits for a place and for money, then sends until the call has ended."""
        most_usd = _most_dollars(llm, request)
        try:
            async with self._limiters[llm.name].slot(self._pool.queue_timeout_s):
                if not await self.budget.reserve(most_usd):
                    return CallResult(llm.name, Outcome.BUDGET)
                result = CallResult(llm.name, Outcome.TIMEOUT)
                try:
                    result = await self._within_time_limit(llm, request)
                finally:
                    self.budget.settle(most_usd, result.dollars)
        except TimeoutError:
            return CallResult(llm.name, Outcome.RATE_LIMITED)
        if self._recording is not None and result.outcome is not Outcome.UNAVAILABLE:
            self._recording.keep(request, result)
        return result

    async def _within_time_limit(self, llm: LLMConfig, request: Request) -> CallResult:
        start = time.monotonic()
        deadline = start + self._pool.request_timeout_s
        try:
            async with asyncio.timeout(self._pool.request_timeout_s):
                attempt = await self._send_with_retries(llm, request, deadline)
        except TimeoutError:
            attempt = Attempt(Outcome.TIMEOUT)
            self._breakers[llm.name].failed()
        result = CallResult(
            llm.name,
            attempt.outcome,
            attempt.text,
            attempt.prompt_tokens,
            attempt.completion_tokens,
            latency_s=time.monotonic() - start,
            usage_estimated=attempt.usage_estimated,
        )
        return _priced(result, llm)

    async def _send_with_retries(
        self, llm: LLMConfig, request: Request, deadline: float
    ) -> Attempt:
        limiter, breaker = self._limiters[llm.name], self._breakers[llm.name]
        last = Attempt(Outcome.UNAVAILABLE)
        for number in range(self._pool.max_retries + 1):
            if number > 0:
                backoff = self._pool.retry_backoff_s * 2 ** (number - 1)
                pause = max(backoff * self._rng.uniform(0.5, 1.5), last.retry_after_s)
                if time.monotonic() + pause > deadline:
                    break
                await asyncio.sleep(pause)
            if not breaker.admits():
                break
            wait = limiter.seconds_to_start()
            if time.monotonic() + wait > deadline:
                breaker.abandoned()
                last = Attempt(Outcome.RATE_LIMITED)
                break
            last = await self._send_once(llm, request, wait)
            if not last.retry:
                break
        return last

    async def _send_once(self, llm: LLMConfig, request: Request, wait: float) -> Attempt:
        """One attempt, after ``wait`` seconds; limiter and breaker learn from it."""
        limiter, breaker = self._limiters[llm.name], self._breakers[llm.name]
        try:
            if wait > 0:
                await asyncio.sleep(wait)
            # One start per pass of the event loop. Replies that came together would else send
            # their successors together, each waiting for all; a seventh of the throughput
            # (benchmarks/pool_throughput.py).
            async with self._turn:
                await asyncio.sleep(0)
            started = time.monotonic()
            attempt = await self._endpoint_of[llm.name].send(request)
        except asyncio.CancelledError:  # the time limit (counted there), or the caller
            breaker.abandoned()
            raise
        if attempt.outcome in _FAILURES:
            breaker.failed()
            return attempt
        breaker.succeeded()
        if attempt.outcome is Outcome.RATE_LIMITED:
            limiter.throttle(started, attempt.retry_after_s)
        elif attempt.outcome is Outcome.OK:
            limiter.widen()
        elif attempt.outcome is Outcome.REFUSED:
            logger.warning("%s refuses a call; check its model name and key", llm.name)
        return attempt

    async def close(self) -> None:
        """Closes connections and recording."""
        for endpoint in self._endpoints.values():
            await endpoint.close()
        if self._recording is not None:
            self._recording.close()


def _priced(result: CallResult, llm: LLMConfig) -> CallResult:
    """With the contract's cost and the true dollars, at the pool's present prices."""
    cost = result.completion_tokens * llm.completion_price
    dollars = (cost + result.prompt_tokens * llm.prompt_price) / 1e6
    return replace(result, cost=cost, dollars=dollars)


def _most_dollars(llm: LLMConfig, request: Request) -> float:
    """Upper bound of what a call costs if the endpoint keeps to ``max_tokens``."""
    prompt_tokens = sum(len(m["content"].encode(errors="replace")) for m in request.messages)
    prompt_cost = (prompt_tokens + _TEMPLATE_TOKENS) * llm.prompt_price
    return (prompt_cost + llm.max_tokens * llm.completion_price) / 1e6


async def check_endpoints(pool: PoolConfig, api_key: str | None = None) -> None:
    """Raises :class:`PoolUnreachableError` unless every endpoint of the pool answers."""
    client = PoolClient(pool, api_key)
    try:
        await client.check()
    finally:
        await client.close()
