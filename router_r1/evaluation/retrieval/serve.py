"""``python -m router_r1.evaluation.retrieval.serve``: a corpus as a member of the pool.

The endpoint speaks the chat-completions protocol, so a pool file alone adds it::

    llms:
      - name: Search
        model: bm25
        base_url: http://127.0.0.1:8090/v1
        completion_price: 0.0
        descriptor: finds passages in a local corpus
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from router_r1.evaluation.retrieval.bm25 import BM25
from router_r1.evaluation.retrieval.source import RetrievalSource, read_corpus
from router_r1.pool.server import SimulatedPoolServer
from verl.errors import UserError
from verl.utils.console import set_up_logging, show_error

MODEL = "bm25"
_HOST = "127.0.0.1"

logger = logging.getLogger(__name__)


def application(index: BM25, passages: int) -> web.Application:
    """The endpoint over an index."""
    source = RetrievalSource(index, passages)
    return SimulatedPoolServer(source, {MODEL: MODEL}, time_scale=0.0).application()


@asynccontextmanager
async def retrieval_endpoint(index: BM25, passages: int) -> AsyncIterator[str]:
    """Serves on a free port of this machine while the block runs; yields the base URL."""
    runner = web.AppRunner(application(index, passages), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, _HOST, 0).start()
        yield f"http://{_HOST}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def main() -> None:
    """Parses the command line and serves until interrupted."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="JSON lines of documents")
    parser.add_argument("--host", default=_HOST)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--passages", type=int, default=3, help="per reply")
    args = parser.parse_args()
    set_up_logging()
    try:
        documents = read_corpus(args.corpus)
    except UserError as error:
        show_error(error)
        sys.exit(2)
    logger.info("%d documents on http://%s:%d/v1", len(documents), args.host, args.port)
    web.run_app(
        application(BM25(documents), args.passages), host=args.host, port=args.port, print=None
    )


if __name__ == "__main__":
    main()
