"""From a reply to the text and tokens that the policy reads.

Guarantees: whatever a reply holds, exactly one well-formed information block comes of it, with no
other tag and no chat control token inside; cutting to length happens inside the block.
"""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

TAG_NAMES = ("think", "search", "information", "answer")

_OPEN = "\n\n<information>"
_CLOSE = "</information>\n\n"
_TAG_LIKE = re.compile(r"<(\s*/?\s*(?:" + "|".join(TAG_NAMES) + r")\b[^>]{0,64})>", re.IGNORECASE)
_CONTROL_TOKEN = re.compile(r"<(\|[^|<>]{0,64}\|)>")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff]")


def neutralise(reply: str, control_tokens: tuple[str, ...] = ()) -> tuple[str, int]:
    """Takes the power out of tags and control tokens in a reply.

    Angle brackets of the four tags and of ``<|…|>`` become round ones; the tokenizer's own
    control tokens (``control_tokens``, e.g. ``</s>``) go the same way; control characters other
    than tab and newline are dropped.

    Returns:
        The harmless text, and how many tags and control tokens were neutralised.
    """
    text = _CONTROL_CHARACTER.sub("", reply)
    count = 0
    while True:  # replacing one can bring another into being
        found = 0
        for pattern in (_TAG_LIKE, _CONTROL_TOKEN):
            text, hits = pattern.subn(r"(\1)", text)
            found += hits
        for token in control_tokens:
            if token in text:
                found += text.count(token)
                text = text.replace(token, f"({token.strip('<>[]|')})")
        if not found:
            return text, count
        count += found


def render_observation(reply: str | None, control_tokens: tuple[str, ...] = ()) -> str:
    """The information block of a reply; a failed call gives the block of ``None``."""
    text = "None" if reply is None else neutralise(reply, control_tokens)[0].strip()
    return f"{_OPEN}{text}{_CLOSE}"


def encode_observation(
    reply: str | None, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[int], str]:
    """Token ids and text of the block, at most ``max_tokens`` tokens, cut inside the tags.

    Raises:
        ValueError: if the empty block alone is longer.
    """
    control_tokens = tuple(tokenizer.all_special_tokens)
    block = render_observation(reply, control_tokens)
    ids = list(tokenizer.encode(block, add_special_tokens=False))
    inner = block.removeprefix(_OPEN).removesuffix(_CLOSE)
    while len(ids) > max_tokens:
        if not inner:
            raise ValueError(
                f"data.max_obs_length={max_tokens} tokens leaves no room for an information block "
                f"({len(ids)} tokens); raise it"
            )
        # Keep the share of characters that the budget allows, and at least one fewer.
        inner = inner[: min(len(inner) - 1, int(len(inner) * max_tokens / len(ids)))]
        block = f"{_OPEN}{inner.rstrip()}{_CLOSE}"
        ids = list(tokenizer.encode(block, add_special_tokens=False))
    return ids, block
