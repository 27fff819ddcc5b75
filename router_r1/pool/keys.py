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
        place: where it was found, for messages: "$NAME" of an environment variable.

    Raises:
        PoolKeyError: if it holds a character that a header cannot, or a space.
    """
    advice = "; set it anew, without line breaks and not from a shortened display"
    return _stripped(value or "", f"the key in {place}", "!", advice) or None


def clean_header(value: str, place: str) -> str:
    """A header's value without space around it; raises :class:`PoolKeyError` as for a key."""
    return _stripped(value, place, " ", "")


def _stripped(value: str, place: str, lowest: str, advice: str) -> str:
    text = value.strip()
    if wrong := next((character for character in text if not lowest <= character <= "~"), None):
        raise PoolKeyError(
            f"{place} holds a character that a header cannot: U+{ord(wrong):04X}{advice}"
        )
    return text
