"""A tool as a member of the pool: what an endpoint is to an LLM.

Guarantees: a tool replies to any query, also to one that it can do nothing with: it says so, and
the policy reads that; a reply bills one token a white-space separated word of query and reply,
whatever tokenizer the policy has, and at most ``max_tokens`` words come back; other calls go on
while a tool works.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from router_r1.pool.config import SEARCH, LLMConfig, PoolConfig
from router_r1.pool.outcome import MAX_CHARACTERS_PER_TOKEN, Attempt, Outcome
from router_r1.pool.recording import Request
from router_r1.pool.tools.calculator import CalculationError, calculate
from router_r1.pool.tools.corpus import load_corpus

_WORD = re.compile(r"\S+")


class Tool:
    """Replies to queries; its ``description`` tells a person what it is. Raises
    :class:`DataError` for a corpus that cannot be used."""

    def __init__(self, member: LLMConfig) -> None:
        self._kind = self.description = member.kind
        self._settings: dict[str, Any] = {"max_tokens": member.max_tokens}
        self._reply: Callable[[str], str] = _calculated
        if member.kind == SEARCH:
            assert member.corpus is not None
            corpus = load_corpus(member.corpus)
            self._reply = partial(corpus.index.passages, limit=member.passages)
            self._settings |= {"corpus": corpus.digest, "passages": member.passages}
            passages = len(corpus.index.documents)
            self.description = f"{member.kind} in {passages} passages of {member.corpus}"

    def request(self, query: str) -> Request:
        """A call as recordings know it: by all that the reply depends on."""
        return Request(self._kind, [{"role": "user", "content": query}], self._settings)

    async def send(
        self,
        request: Request,
        max_tokens: int,
        stream_fields: Mapping[str, Any],  # noqa: ARG002 - for endpoints, whose place this takes
    ) -> Attempt:
        """The reply to a request of :meth:`request`, cut after ``max_tokens`` words."""
        query = request.messages[-1]["content"]
        text = _first_words(await asyncio.to_thread(self._reply, query), max_tokens)
        return Attempt(Outcome.OK, text, len(query.split()), len(text.split()))


def check_tools(pool: PoolConfig) -> None:
    """Makes each tool of the pool once; raises :class:`DataError` for a corpus that is no use."""
    for member in pool.tools:
        Tool(member)


def _calculated(expression: str) -> str:
    try:
        return calculate(expression)
    except CalculationError as error:
        return f"Error: {error}."


def _first_words(text: str, count: int) -> str:
    words = itertools.islice(_WORD.finditer(text), count)
    end = max((word.end() for word in words), default=0)
    return text[: min(end, count * MAX_CHARACTERS_PER_TOKEN)]
