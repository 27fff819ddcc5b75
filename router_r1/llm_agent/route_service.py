"""The original's names for the pool: thin faces of the pool file and the client."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from router_r1.llm_agent.parsing import Action
from router_r1.pool.client import PoolClient
from router_r1.pool.config import DEFAULT_INSTRUCTION, QUERY_MARKER, PoolConfig
from router_r1.pool.loading import paper_pool
from router_r1.pool.original_names import resolve_original_name
from router_r1.pool.outcome import CallResult, Outcome

AGENT_PROMPT = f"{DEFAULT_INSTRUCTION}\n\n{QUERY_MARKER}{{query}}"
API_PRICE_1M_TOKENS = {llm.model: llm.completion_price for llm in paper_pool().llms}


def check_llm_name(target_llm: str) -> tuple[str, float]:
    """API model and temperature by the paper pool's substring rules; ("", 0) for no match."""
    return resolve_original_name(target_llm)


def access_routing_pool(
    queries: Sequence[str],
    api_base: str | None = None,
    api_key: str | None = None,
    pool: PoolConfig | None = None,
) -> dict[str, list[Any]]:
    """Asks "LLM-Name: query" strings, all at once.

    Returns:
        ``result``: the replies, "LLM Name Error" for an unknown LLM, "API Request Error" for a
        failed call; ``completion_tokens_list``: cost of each call (tokens x $ per 1M), as in the
        original.
    """
    chosen = pool or paper_pool()
    if api_base:
        chosen = replace(chosen, api_base=api_base)

    async def ask_all() -> list[CallResult]:
        client = PoolClient(chosen, api_key)
        try:
            actions = [Action("search", query) for query in queries]
            return await asyncio.gather(*(client.ask(a.llm_name, a.query) for a in actions))
        finally:
            await client.close()

    results = asyncio.run(ask_all())
    return {
        "result": [_original_text(result) for result in results],
        "completion_tokens_list": [result.cost for result in results],
    }


def _original_text(result: CallResult) -> str:
    if result.outcome is Outcome.UNKNOWN_LLM:
        return "LLM Name Error"
    return result.text if result.text is not None else "API Request Error"
