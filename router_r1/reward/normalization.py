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

    "paper" knows ASCII punctuation only; "unicode" drops that of all scripts and invisible
    characters too, and makes compatible and differently composed characters equal.
    """
    if normalization == "unicode":
        folded = unicodedata.normalize("NFKC", text).casefold()
        composed = unicodedata.normalize("NFKC", folded)  # folding can undo composition
        plain = "".join(c for c in composed if not _is_punctuation(c))
    else:
        plain = text.lower().translate(_PUNCTUATION)
    words = _ARTICLES.sub(" ", plain).split()
    return " ".join(words or plain.split())


def _is_punctuation(character: str) -> bool:
    """Of any script; an invisible character as well."""
    of_ascii = character in string.punctuation or character == _MINUS_SIGN
    return of_ascii or unicodedata.category(character).startswith(("P", "Cf"))
