"""BM25 (Robertson and Zaragoza, 2009) over documents held in memory.

The score of a document d for a query q is the sum over q's terms t of
``idf(t) * f * (k1 + 1) / (f + k1 * (1 - b + b * |d| / mean |d|))``, f = count of t in d,
``idf(t) = log(1 + (N - n + 0.5) / (n + 0.5))``, n = documents with t. Ties keep corpus order.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

NOTHING_FOUND = "No document matches."
_K1 = 1.5  # saturation of a term's count
_B = 0.75  # how far long documents are discounted, in [0, 1]
_TERM = re.compile(r"\w+")


def _terms(text: str) -> list[str]:
    return _TERM.findall(text.lower())


@dataclass(frozen=True)
class Hit:
    """A document found: its place in the corpus and its score."""

    index: int
    score: float


class BM25:
    """An index over at least one document."""

    def __init__(self, documents: Sequence[str]) -> None:
        if not documents:
            raise ValueError("BM25 needs at least one document")
        self.documents = list(documents)
        counts = [Counter(_terms(document)) for document in documents]
        lengths = [count.total() for count in counts]
        mean = max(sum(lengths) / len(lengths), 1e-9)
        self._weights: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for index, count in enumerate(counts):
            norm = _K1 * (1 - _B + _B * lengths[index] / mean)
            for term, f in count.items():
                self._weights[term].append((index, f * (_K1 + 1) / (f + norm)))

    def search(self, query: str, limit: int) -> list[Hit]:
        """The best documents that share a term with the query, at most ``limit``."""
        scores: defaultdict[int, float] = defaultdict(float)
        for term in _terms(query):
            postings = self._weights.get(term, [])
            matching = len(postings)
            idf = math.log(1 + (len(self.documents) - matching + 0.5) / (matching + 0.5))
            for index, weight in postings:
                scores[index] += idf * weight
        best = sorted(scores, key=lambda index: (-scores[index], index))[:limit]
        return [Hit(index, scores[index]) for index in best]

    def passages(self, query: str, limit: int) -> str:
        """What :meth:`search` finds, best first, one a line; ``NOTHING_FOUND`` if it is nothing."""
        found = (self.documents[hit.index] for hit in self.search(query, limit))
        return "\n".join(" ".join(passage.split()) for passage in found) or NOTHING_FOUND
