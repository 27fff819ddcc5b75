"""The asynchronous client that asks the pool's LLMs.

Guarantees: every call ends in one typed outcome, after at most ``queue_timeout_s`` of waiting and
``request_timeout_s`` of sending; nothing but cancellation is raised; a call costs what was billed
(:mod:`router_r1.pool.outcome`); limits, circuit breaker and budget hold whatever callers do. One
event loop per client.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from router_r1.pool.budget import Budget
from router_r1.pool.call_cache import CallCache
from router_r1.pool.config import QUERY_MARKER, LLMConfig, PoolConfig
from router_r1.pool.endpoint import Endpoint, PoolUnreachableError
from router_r1.pool.health import PoolHealth
from router_r1.pool.ledger import Ledger
from router_r1.pool.line import Line
from router_r1.pool.offer import OfferedPool
from router_r1.pool.outcome import Attempt, CallResult, Outcome
from router_r1.pool.recording import Request
from router_r1.pool.reply import estimate_tokens
from router_r1.pool.request_options import read_key
from router_r1.pool.tools.member import Tool

# Chat templates add a few tokens to a message; a token is at least one byte.
_TEMPLATE_TOKENS = 64


class PoolClient(AbstractAsyncContextManager["PoolClient"]):
    """Asks LLMs by name; as a context, closes itself.

    Args:
        pool: ``api_base`` must be set unless every LLM has its own or is a tool.
        api_key: used instead of the environment variables, if given.
        count_tokens: tokens of a text, for endpoints that do not say what they bill.
        once: equal calls are sent once in the client's life, also those that fail.

    Raises:
        UserError: if an endpoint's URL, proxy or key, or a tool's corpus cannot be used.
    """

    def __init__(
        self,
        pool: PoolConfig,
        api_key: str | None = None,
        count_tokens: Callable[[str], int] = estimate_tokens,
        once: bool = False,
    ) -> None:
        self._pool = pool
        self._endpoints: dict[str, Endpoint] = {}
        self._calls = CallCache(pool.recording, pool.share_equal_calls, once)
        self._tools = {tool.name: Tool(tool) for tool in pool.tools}
        turn, rng = asyncio.Lock(), random.Random(0)
        self._lines = {
            llm.name: Line(llm, pool, self._answering(llm, api_key, count_tokens), turn, rng)
            for llm in pool.llms
        }
        self.budget = Budget(pool.budget_usd)
        self.ledger = Ledger([llm.name for llm in pool.llms])
        self.health = PoolHealth(pool.health, [llm.name for llm in pool.llms])

    def _answering(
        self, llm: LLMConfig, api_key: str | None, count_tokens: Callable[[str], int]
    ) -> Endpoint | Tool:
        """The tool, or the endpoint, which LLMs at one place and with the same headers share."""
        if tool := self._tools.get(llm.name):
            return tool
        base_url = llm.base_url or self._pool.api_base
        if not base_url:
            raise PoolUnreachableError(
                f"pool {self._pool.name!r} has no endpoint for {llm.name}: set pool.api_base or "
                "pass api_base=…"
            )
        variable = self._pool.key_variable(llm)
        headers = (llm.request.extra_headers, llm.request.extra_headers_env)
        place = json.dumps([base_url, variable, *headers], sort_keys=True)
        if place not in self._endpoints:
            key = read_key(api_key, "api_key") or read_key(os.environ.get(variable), f"${variable}")
            self._endpoints[place] = Endpoint(base_url, variable, key, llm.request, count_tokens)
        return self._endpoints[place]

    async def check(self) -> None:
        """Asks each endpoint for its models; see :meth:`router_r1.pool.endpoint.Endpoint.check`."""
        if self._calls.sends:
            for endpoint in self._endpoints.values():
                await endpoint.check()

    async def ask(
        self,
        name: str,
        query: str,
        offered: OfferedPool | None = None,
        allows: Callable[[float], bool] | None = None,
    ) -> CallResult:
        """Sends ``query`` to the LLM that ``name`` means.

        Args:
            offered: the pool as a question is offered it (:mod:`router_r1.pool.offer`): its names
                count, and its prices in the result; None for the pool itself.
            allows: whether a call may be sent that costs so many dollars at most, at the prices
                that the question is offered; None for any.
        """
        shown = (self._pool if offered is None else offered.pool).resolve(name)
        if shown is None:
            result = CallResult(name, Outcome.UNKNOWN_LLM)
        else:
            own = shown if offered is None else offered.owner_of(shown)
            result = await self._ask(own, shown, query, allows)
        self.ledger.book(result)
        self.health.book(result)
        return result if shown is None else _priced(result, shown)

    async def _ask(
        self,
        llm: LLMConfig,
        shown: LLMConfig,
        query: str,
        allows: Callable[[float], bool] | None,
    ) -> CallResult:
        if not query.strip():
            return CallResult(llm.name, Outcome.INVALID_QUERY)
        request = self._request(llm, query)
        if allows is not None and not allows(_most_dollars(shown, request)):
            return CallResult(llm.name, Outcome.QUESTION_LIMIT)
        result = await self._calls.get(request, llm.name, lambda: self._call(llm, request))
        return _priced(result, llm)

    def _request(self, llm: LLMConfig, query: str) -> Request:
        if tool := self._tools.get(llm.name):
            return tool.request(query)
        content = f"{self._pool.instruction}\n\n{QUERY_MARKER}{query}"
        sampling = {
            "temperature": llm.temperature,
            "top_p": 1.0,
            "seed": 42,
            "max_tokens": llm.max_tokens,
        }
        messages = [{"role": "user", "content": content}]
        return Request(llm.model, messages, llm.request.parameters(sampling))

    async def _call(self, llm: LLMConfig, request: Request) -> CallResult:
        """Waits for a place and for money, then sends until the call has ended."""
        line, most_usd = self._lines[llm.name], _most_dollars(llm, request)
        try:
            async with line.place() as left:
                if not await self.budget.reserve(most_usd):
                    return CallResult(llm.name, Outcome.BUDGET)
                result = CallResult(llm.name, Outcome.TIMEOUT)
                try:
                    start = time.monotonic()
                    attempt = await line.call(request, left)
                    result = _result(llm, attempt, time.monotonic() - start)
                finally:
                    self.budget.settle(most_usd, result.dollars)
        except TimeoutError:
            return CallResult(llm.name, Outcome.RATE_LIMITED)
        if result.outcome is not Outcome.UNAVAILABLE:
            self._calls.keep(request, result)
        return result

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes connections and recording."""
        for endpoint in self._endpoints.values():
            await endpoint.close()
        self._calls.close()


def _result(llm: LLMConfig, attempt: Attempt, latency_s: float) -> CallResult:
    result = CallResult(
        llm.name,
        attempt.outcome,
        attempt.text or None,
        attempt.prompt_tokens,
        attempt.completion_tokens,
        latency_s=latency_s,
        usage_estimated=attempt.usage_estimated,
        detail="; ".join(filter(None, (attempt.detail, attempt.advice))),
    )
    return _priced(result, llm)


def _priced(result: CallResult, llm: LLMConfig) -> CallResult:
    """With cost (completion tokens x $ per 1M) and dollars, at the pool's present prices."""
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
    async with PoolClient(pool, api_key) as client:
        await client.check()
