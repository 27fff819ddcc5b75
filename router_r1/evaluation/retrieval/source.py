"""What the retrieval endpoint replies: the passages found, as a chat completion's text."""

from __future__ import annotations

import json
from pathlib import Path

from router_r1.evaluation.retrieval.bm25 import BM25
from router_r1.pool.server import SimulatedReply
from verl.utils.dataset import DataError

NOTHING_FOUND = "No document matches."


class RetrievalSource:
    """Implements :class:`router_r1.pool.server.ReplySource`.

    Bills one token per white-space separated word, of the query and of the passages.

    Args:
        index: of the corpus.
        passages: at most so many per reply, best first, one a line.
    """

    def __init__(self, index: BM25, passages: int) -> None:
        self._index = index
        self._passages = passages

    def reply(self, llm: str, query: str) -> SimulatedReply:  # noqa: ARG002 - there is one corpus
        """The passages for ``query``."""
        hits = self._index.search(query, self._passages)
        text = "\n".join(self._index.documents[hit.index] for hit in hits) or NOTHING_FOUND
        return SimulatedReply(text, len(query.split()), len(text.split()), latency_s=0.0)


def read_corpus(path: Path) -> list[str]:
    """Documents of a JSON-lines file: strings, or objects with ``contents`` or ``text``.

    Raises:
        DataError: if there is no such file, no document, or a line is neither.
    """
    if not path.is_file():
        raise DataError(f"no such corpus: {path}")
    documents = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                documents.append(_text(json.loads(line)))
            except (ValueError, KeyError) as error:
                raise DataError(
                    f'{path} line {number} must be a JSON string or {{"contents": …}}'
                ) from error
    if not documents:
        raise DataError(f"{path} holds no document")
    return documents


def _text(row: object) -> str:
    if isinstance(row, str):
        return row
    if not isinstance(row, dict):
        raise ValueError("neither text nor an object")
    return str(row["contents"] if "contents" in row else row["text"])
