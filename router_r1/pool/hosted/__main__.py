"""``python -m router_r1.pool.hosted``: a corpus as a member of the pool.

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
from pathlib import Path

from aiohttp import web

from router_r1.pool.hosted.retrieval import retrieval_application
from router_r1.pool.tools.bm25 import BM25
from router_r1.pool.tools.corpus import read_corpus
from verl.utils.command import run_as_command

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Parses the command line and serves until interrupted."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--corpus", type=Path, required=True, help="JSON lines, or text (.txt, .md)"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--passages", type=int, default=3, help="per reply")
    args = parser.parse_args(arguments)
    documents = read_corpus(args.corpus)
    logger.info("%d documents on http://%s:%d/v1", len(documents), args.host, args.port)
    app = retrieval_application(BM25(documents), args.passages)
    web.run_app(app, host=args.host, port=args.port, print=None)


if __name__ == "__main__":
    run_as_command(main)
