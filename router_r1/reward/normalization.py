"""The normal form in which an answer is compared with a gold answer.

Guarantees: an answer that holds a letter or digit has a normal form that is not empty.
"""

from __future__ import annotations

import re
import string
import unicodedata

NORMALIZATIONS = ("paper", "unicode")

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MINUS_SIGN = "\u2212"  # a mathematical symbol to Unicode, a hyphen to who types it


def normalize_answer(text: str, normalization: str = "paper") -> str:
    """Lower case, without punctuation and articles, white space squeezed.

    Articles stay where nothing else would be left: "A" is an answer, "" is none.

    Args:
        text: an answer.
        normalization: "paper" knows ASCII punctuation only; "unicode" drops that of all scripts
            and invisible characters too, and makes compatible and differently composed characters
            equal.
    """
    if normalization == "unicode":
        plain = _drop_unicode_punctuation(_fold(text))
    else:
        plain = text.lower().translate(_PUNCTUATION)
    words = _ARTICLES.sub(" ", plain).split()
    return " ".join(words or plain.split())


def _fold(text: str) -> str:
    """Compatible forms made one, then case folded; folding can undo composition."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def _drop_unicode_punctuation(text: str) -> str:
    return "".join(
        character
        for character in text
        if character not in string.punctuation
        and character != _MINUS_SIGN
        and unicodedata.category(character)[0] != "P"
        and unicodedata.category(character) != "Cf"
    )
