"""From token ids that come one by one to text that can be shown at once.

Guarantees: the pieces, joined, are the decoded whole; no piece ends within a character that is
spread over several tokens. The cost of a piece does not grow with the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"  # what an incomplete character decodes to


class StreamDecoder:
    """Text of one generation, as far as it is certain; ``decode`` may leave out some ids, e.g.
    special tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        # Decoding starts one piece earlier than the new ids: what a token's text is can depend on
        # whether another precedes it.
        self._context: list[int] = []
        self._pending: list[int] = []

    def push(self, ids: Sequence[int]) -> str:
        """The text that ``ids`` complete; "" while a character is incomplete."""
        self._pending += ids
        text = self._pending_text()
        if text.endswith(_REPLACEMENT) or not text:
            return ""
        self._context, self._pending = self._pending, []
        return text

    def flush(self) -> str:
        """The rest, at the end of the generation."""
        text = self._pending_text()
        self._context, self._pending = [], []
        return text

    def _pending_text(self) -> str:
        return self._decode(self._context + self._pending)[len(self._decode(self._context)) :]
