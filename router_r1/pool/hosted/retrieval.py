"""A corpus as a member of the pool: BM25's passages, as a chat completion's text."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiohttp import web

from router_r1.pool.hosted.server import SimulatedPoolServer, SimulatedReply, listening
from router_r1.pool.tools.bm25 import BM25

MODEL = "bm25"


class RetrievalSource:
    """Implements :class:`router_r1.pool.hosted.server.ReplySource`: at most ``passages`` a reply.

    Bills one token per white-space separated word, of the query and of the passages.
    """

    def __init__(self, index: BM25, passages: int) -> None:
        self._index = index
        self._passages = passages

    def reply(self, llm: str, query: str) -> SimulatedReply:  # noqa: ARG002 - there is one corpus
        """The passages for ``query``."""
        text = self._index.passages(query, self._passages)
        return SimulatedReply(text, len(query.split()), len(text.split()), latency_s=0.0)


def retrieval_application(index: BM25, passages: int) -> web.Application:
    """The endpoint over an index; its one model is :data:`MODEL`."""
    source = RetrievalSource(index, passages)
    return SimulatedPoolServer(source, {MODEL: MODEL}, time_scale=0.0).application()


def retrieval_endpoint(index: BM25, passages: int) -> AbstractAsyncContextManager[str]:
    """Serves on a free port of this machine while the block runs; yields the base URL."""
    return listening(retrieval_application(index, passages))
