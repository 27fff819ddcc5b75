"""Tries an LLM as it is in the pool file; if its endpoint does not take the request, tries what its
words ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from router_r1.pool.advice import advise
from router_r1.pool.client import PoolClient
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.request_options import RequestOptions

# Endpoints name one field at a time; there are five that can be wrong.
_MOST_CHANGES = 6
# A person waits; in a run, calls wait for an endpoint as long as the pool file lets them.
_LONGEST_WAIT_S = 30.0
_ABOUT_THE_REQUEST = (Outcome.REFUSED, Outcome.INVALID_QUERY)


@dataclass(frozen=True)
class Trial:
    """How asking an LLM went.

    Attributes:
        result: of the call as the pool file has it.
        options: that the endpoint's words ask for; None if they name no change.
        cured: whether the LLM answers with them.
    """

    result: CallResult
    options: RequestOptions | None = None
    cured: bool = False


async def try_llm(pool: PoolConfig, llm: LLMConfig, question: str) -> Trial:
    """Asks one LLM, with other request options as long as its endpoint names what to change."""
    first = result = await _ask(pool, llm, question)
    options = llm.request
    for _ in range(_MOST_CHANGES):
        if result.outcome not in _ABOUT_THE_REQUEST:
            break
        wanted = advise(result.detail, options)
        if wanted is None:
            break
        options = wanted
        result = await _ask(pool, replace(llm, request=options), question)
    changed = options if options != llm.request else None
    return Trial(first, changed, cured=result.outcome is Outcome.OK)


async def _ask(pool: PoolConfig, llm: LLMConfig, question: str) -> CallResult:
    wait_s = min(pool.queue_timeout_s, _LONGEST_WAIT_S)
    client = PoolClient(replace(pool, llms=[llm], queue_timeout_s=wait_s))
    try:
        return await client.ask(llm.name, question)
    finally:
        await client.close()
