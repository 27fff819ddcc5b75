"""A reward that both sides of benchmarks.peer_trl can compute: it differs within a group."""

from __future__ import annotations


def distinct_words(text: str) -> float:
    """How many different words a text has."""
    return float(len(set(text.split())))
