"""A corpus as a member of the pool: BM25's passages, as a chat completion's text."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiohttp import web

from router_r1.pool.hosted.server import SimulatedPoolServer, SimulatedReply, listening
from router_r1.pool.tools.bm25 import BM25

MODEL = "bm25"


def passages_reply(index: BM25, passages: int, query: str) -> SimulatedReply:
    """At most ``passages`` of the corpus; one token a white-space separated word of query and reply
    is billed."""
    text = index.passages(query, passages)
    return SimulatedReply(text, len(query.split()), len(text.split()), latency_s=0.0)


def retrieval_application(index: BM25, passages: int) -> web.Application:
    """The endpoint over an index; its one model is :data:`MODEL`."""
    server = SimulatedPoolServer(
        lambda _, query: passages_reply(index, passages, query), {MODEL: MODEL}, time_scale=0.0
    )
    return server.application()


def retrieval_endpoint(index: BM25, passages: int) -> AbstractAsyncContextManager[str]:
    """Serves on a free port of this machine while the block runs; yields the base URL."""
    return listening(retrieval_application(index, passages))
