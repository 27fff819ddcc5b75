"""Texts that a tokenizer turns into control tokens, and how they lose that power.

Guarantees: what :func:`disarm` returns holds none of the given texts and no ``<|…|>``.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CONTROL_TOKEN = re.compile(r"<(\|[^|<>]{0,64}\|)>")
_BRACKETED = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")


@functools.lru_cache(maxsize=8)
def control_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The special tokens, and what was added to the vocabulary in angle or square brackets
    (``<tool_call>``, ``[INST]``)."""
    added = (token for token in tokenizer.get_added_vocab() if _BRACKETED.fullmatch(token))
    texts = {*map(str, tokenizer.all_special_tokens), *added}
    return tuple(sorted(text for text in texts if text.strip()))


@functools.lru_cache(maxsize=8)
def turn_control_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Those of :func:`control_texts` that no message may hold.

    Paired tags such as ``<think>`` and ``</think>`` are markup, which a prompt may speak of; a
    pair that marks begin and end of text (``<s>``) is none.
    """
    texts = control_texts(tokenizer)
    named = {str(token) for token in tokenizer.special_tokens_map.values()}
    return tuple(text for text in texts if text in named or not _is_paired(text, texts))


def _is_paired(text: str, texts: tuple[str, ...]) -> bool:
    name = text.strip("</>")
    return text.startswith("<") and f"<{name}>" in texts and f"</{name}>" in texts


def disarm(text: str, texts: tuple[str, ...]) -> tuple[str, int]:
    """``text`` with round brackets in the place of each control token's own; how many there were.

    ``<|…|>`` counts as one whatever the tokenizer. Replacing one can bring another into being, so
    it goes on until there is none.
    """
    count = 0
    while True:
        text, found = _CONTROL_TOKEN.subn(r"(\1)", text)
        for token in texts:
            if token in text:
                found += text.count(token)
                text = text.replace(token, _powerless(token))
        if not found:
            return text, count
        count += found


def _powerless(token: str) -> str:
    """What stands in a token's place: its name in round brackets, spaced out where that would hold
    the token again (``sop``), nothing where even this would."""
    name = token.strip("<>[]|")
    forms = (f"({name})", f"({' '.join(name)})", "")
    return next(form for form in forms if token not in form)
