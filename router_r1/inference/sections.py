"""Splits streamed text at the four tags.

Guarantees: the pieces do not depend on how the text was cut into deltas, but for their number; a
tag is never shown in part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from router_r1.llm_agent.observation import TAG_NAMES

_TAG = re.compile(r"<(/?)(" + "|".join(TAG_NAMES) + r")>")
_TAGS = tuple(f"<{slash}{name}>" for name in TAG_NAMES for slash in ("", "/"))


class SectionReader:
    """Knows in which block the text stands; ``section`` is its tag's name, "" outside."""

    def __init__(self) -> None:
        self.section = ""
        self._held = ""

    def push(self, delta: str) -> Iterator[tuple[str, str]]:
        """(section, text) pieces without the tags; what may be a tag's beginning is held back."""
        text = self._held + delta
        position = 0
        for tag in _TAG.finditer(text):
            yield from self._piece(text[position : tag.start()])
            self.section = "" if tag.group(1) else tag.group(2)
            position = tag.end()
        rest = text[position:]
        keep = len(rest) - _partial_tag_length(rest)
        self._held = rest[keep:]
        yield from self._piece(rest[:keep])

    def end(self) -> Iterator[tuple[str, str]]:
        """What was held back; the next text starts outside of any block."""
        held, self._held = self._held, ""
        yield from self._piece(held)
        self.section = ""

    def _piece(self, text: str) -> Iterator[tuple[str, str]]:
        if text:
            yield self.section, text


def _partial_tag_length(text: str) -> int:
    """Length of the longest proper beginning of a tag that ``text`` ends with."""
    start = text.rfind("<")
    if start < 0:
        return 0
    tail = text[start:]
    return len(tail) if any(tag.startswith(tail) for tag in _TAGS) else 0
