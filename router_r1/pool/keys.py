"""Keys as people have them in their environment: with newlines, spaces, or an ellipsis in them.

Guarantees: no message holds any part of a key but the one character that is wrong with it.
"""

from __future__ import annotations

from verl.errors import UserError


class PoolKeyError(UserError):
    """A key or header that cannot be sent."""


def read_key(value: str | None, place: str) -> str | None:
    """The key without space around it; None if there is none.

    Args:
        value: as found.
        place: where, for messages: "$NAME" of an environment variable.

    Raises:
        PoolKeyError: if it holds a character that a header cannot.
    """
    key = (value or "").strip()
    if wrong := next((character for character in key if not "!" <= character <= "~"), None):
        raise PoolKeyError(
            f"the key in {place} holds a character that a header cannot: U+{ord(wrong):04X}; "
            "set it anew, without line breaks and not from a shortened display"
        )
    return key or None


def clean_header(value: str, place: str) -> str:
    """A header's value without space around it.

    Raises:
        PoolKeyError: if it holds a character that a header cannot.
    """
    text = value.strip()
    if wrong := next((character for character in text if not " " <= character <= "~"), None):
        raise PoolKeyError(f"{place} holds a character that a header cannot: U+{ord(wrong):04X}")
    return text
