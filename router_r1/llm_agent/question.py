"""How a question is written in training data and when a user asks it."""

from __future__ import annotations

# Beside ASCII: full-width question mark, CJK full stop, full-width exclamation mark, Arabic one.
_SENTENCE_ENDS = ("?", ".", "!", "\uff1f", "\u3002", "\uff01", "\u061f")


def as_question(text: str) -> str:
    """``text`` stripped; a question mark follows unless a sentence mark of some script ends it."""
    stripped = text.strip()
    return stripped if stripped.endswith(_SENTENCE_ENDS) else f"{stripped}?"


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be encoded; JSON and command lines can hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
