"""Search in the user's own corpus."""

from __future__ import annotations

from router_r1.pool.tools.corpus import Corpus

NOTHING_FOUND = "No document matches."


def search(corpus: Corpus, passages: int, query: str) -> str:
    """The passages that fit ``query`` best, at most so many, best first, one a line."""
    hits = corpus.index.search(query, passages)
    found = (corpus.index.documents[hit.index] for hit in hits)
    return "\n".join(" ".join(passage.split()) for passage in found) or NOTHING_FOUND
