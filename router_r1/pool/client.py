"""The asynchronous client that asks the pool's LLMs.

Guarantees: every call ends in one typed :class:`Outcome` within ``request_timeout_s``; nothing but
cancellation is raised; a failed call costs nothing; at most ``concurrency`` calls per LLM are in
flight. One event loop per client.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from dataclasses import dataclass
from enum import StrEnum

import openai

from router_r1.pool.config import QUERY_MARKER, LLMConfig, PoolConfig
from verl.errors import UserError

logger = logging.getLogger(__name__)

_RETRIED_STATUS = (408, 409, 429)
_CHECK_TIMEOUT_S = 10.0


class Outcome(StrEnum):
    """How a call ended."""

    OK = "ok"
    UNKNOWN_LLM = "unknown_llm"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    CONNECTION_ERROR = "connection_error"
    REFUSED = "refused"
    MALFORMED = "malformed"


@dataclass(frozen=True)
class CallResult:
    """One call.

    Attributes:
        llm: the pool's name, or what was asked for if it is unknown.
        outcome: how it ended.
        text: the reply, None unless ok.
        prompt_tokens, completion_tokens: from the endpoint's usage, 0 unless ok.
        cost: completion tokens x $ per 1M.
        dollars: what prompt and completion truly cost.
        latency_s: from the request to the end, retries and waiting included.
    """

    llm: str
    outcome: Outcome
    text: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    dollars: float = 0.0
    latency_s: float = 0.0


class PoolUnreachableError(UserError):
    """An endpoint of the pool does not answer."""


class PoolClient:
    """Asks LLMs by name.

    Args:
        pool: the pool; ``pool.api_base`` must be set unless every LLM has its own.
        api_key: used instead of the environment variables, if given.
    """

    def __init__(self, pool: PoolConfig, api_key: str | None = None) -> None:
        self._pool = pool
        self._clients: dict[tuple[str, str], openai.AsyncOpenAI] = {}
        self._client_of: dict[str, openai.AsyncOpenAI] = {}
        for llm in pool.llms:
            self._client_of[llm.name] = self._client(llm, api_key)
        self._limits = {llm.name: asyncio.Semaphore(llm.concurrency) for llm in pool.llms}
        self._rng = random.Random(0)

    def _client(self, llm: LLMConfig, api_key: str | None) -> openai.AsyncOpenAI:
        base_url = llm.base_url or self._pool.api_base
        if not base_url:
            raise PoolUnreachableError(
                f"pool {self._pool.name!r} has no endpoint for {llm.name}: set pool.api_base or "
                "pass api_base=…"
            )
        key_variable = llm.api_key_env or self._pool.api_key_env
        endpoint = (base_url, key_variable)
        if endpoint not in self._clients:
            # A key must be there for the openai package; local servers do not look at it.
            key = api_key or os.environ.get(key_variable) or "no-key"
            self._clients[endpoint] = openai.AsyncOpenAI(
                base_url=base_url, api_key=key, max_retries=0
            )
        return self._clients[endpoint]

    async def check(self) -> None:
        """Asks each endpoint for its models.

        Raises:
            PoolUnreachableError: naming the URL that does not answer.
        """
        for (base_url, key_variable), client in self._clients.items():
            try:
                await client.models.list(timeout=_CHECK_TIMEOUT_S)
            except openai.AuthenticationError as error:
                raise PoolUnreachableError(
                    f"the pool endpoint {base_url} refuses the key in ${key_variable}"
                ) from error
            except openai.APIConnectionError as error:
                raise PoolUnreachableError(
                    f"the pool endpoint {base_url} does not answer: {error}; start it or correct "
                    "pool.api_base"
                ) from error
            except openai.APIStatusError as error:
                logger.warning("%s answers /models with status %d", base_url, error.status_code)

    async def ask(self, name: str, query: str) -> CallResult:
        """Sends ``query`` to the LLM that ``name`` means; see the module's guarantees."""
        llm = self._pool.resolve(name)
        if llm is None:
            return CallResult(name, Outcome.UNKNOWN_LLM)
        start = time.monotonic()
        try:
            async with asyncio.timeout(self._pool.request_timeout_s):
                result = await self._ask_with_retries(llm, query)
        except TimeoutError:
            result = CallResult(llm.name, Outcome.TIMEOUT)
        latency = time.monotonic() - start
        return CallResult(**{**result.__dict__, "latency_s": latency})

    async def _ask_with_retries(self, llm: LLMConfig, query: str) -> CallResult:
        attempt = 0
        while True:
            async with self._limits[llm.name]:
                result, retry_after = await self._ask_once(llm, query)
            if retry_after is None or attempt >= self._pool.max_retries:
                return result
            backoff = self._pool.retry_backoff_s * 2**attempt * self._rng.uniform(0.5, 1.5)
            await asyncio.sleep(max(backoff, retry_after))
            attempt += 1

    async def _ask_once(self, llm: LLMConfig, query: str) -> tuple[CallResult, float | None]:
        """The result, and the least seconds to wait before a retry (None: do not retry)."""
        content = f"{self._pool.instruction}\n\n{QUERY_MARKER}{query}"
        try:
            completion = await self._client_of[llm.name].chat.completions.create(
                model=llm.model,
                messages=[{"role": "user", "content": content}],
                temperature=llm.temperature,
                top_p=1.0,
                seed=42,
                max_tokens=llm.max_tokens,
                timeout=self._pool.request_timeout_s,
            )
        except openai.APITimeoutError:
            return CallResult(llm.name, Outcome.TIMEOUT), 0.0
        except openai.APIConnectionError:
            return CallResult(llm.name, Outcome.CONNECTION_ERROR), 0.0
        except openai.APIStatusError as error:
            return self._status_result(llm, error)
        except (openai.OpenAIError, ValueError):  # ValueError: a body that is not JSON
            return CallResult(llm.name, Outcome.MALFORMED), None
        try:
            text = completion.choices[0].message.content
            usage = completion.usage
        except (AttributeError, IndexError, TypeError):
            return CallResult(llm.name, Outcome.MALFORMED), None
        if not isinstance(text, str) or usage is None:
            return CallResult(llm.name, Outcome.MALFORMED), None
        cost = usage.completion_tokens * llm.completion_price
        return (
            CallResult(
                llm.name,
                Outcome.OK,
                text,
                usage.prompt_tokens,
                usage.completion_tokens,
                cost,
                (cost + usage.prompt_tokens * llm.prompt_price) / 1e6,
            ),
            None,
        )

    @staticmethod
    def _status_result(
        llm: LLMConfig, error: openai.APIStatusError
    ) -> tuple[CallResult, float | None]:
        status = error.status_code
        if status == 429:
            outcome = Outcome.RATE_LIMITED
        else:
            outcome = Outcome.SERVER_ERROR if status >= 500 else Outcome.REFUSED
        if status not in _RETRIED_STATUS and status < 500:
            logger.warning("%s refuses a call with status %d", llm.name, status)
            return CallResult(llm.name, outcome), None
        try:
            retry_after = float(error.response.headers.get("retry-after", 0))
        except ValueError:  # an HTTP date
            retry_after = 0.0
        return CallResult(llm.name, outcome), retry_after

    async def close(self) -> None:
        """Closes the connections."""
        for client in self._clients.values():
            await client.close()


async def check_endpoints(pool: PoolConfig, api_key: str | None = None) -> None:
    """Raises :class:`PoolUnreachableError` unless every endpoint of the pool answers."""
    client = PoolClient(pool, api_key)
    try:
        await client.check()
    finally:
        await client.close()
