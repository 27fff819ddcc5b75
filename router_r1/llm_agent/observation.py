"""From a reply to the text and tokens that the policy reads.

Guarantees: whatever a reply holds, exactly one well-formed information block comes of it, with no
other tag and no chat control token inside; cutting to length happens inside the block.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from router_r1.pool.outcome import MAX_CHARACTERS_PER_TOKEN
from verl.utils import control_tokens

TAG_NAMES = ("think", "search", "information", "answer")

OPEN = "\n\n<information>"
CLOSE = "</information>\n\n"
_TAG_LIKE = re.compile(r"<(\s*/?\s*(?:" + "|".join(TAG_NAMES) + r")\b[^>]{0,64})>", re.IGNORECASE)
_CONTROL_CHARACTER = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)


@dataclass(frozen=True)
class Observation:
    """An information block.

    Attributes:
        token_ids: what the policy reads.
        text: the same as text.
        neutralised: tags and control tokens of the reply that lost their power.
    """

    token_ids: list[int]
    text: str
    neutralised: int


@functools.lru_cache(maxsize=8)
def control_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The tokenizer's control tokens, without the four tags: :func:`neutralise` knows them
    anyway."""
    ours = {f"<{slash}{name}>" for name in TAG_NAMES for slash in ("", "/")}
    return tuple(text for text in control_tokens.control_texts(tokenizer) if text not in ours)


def neutralise(reply: str, controls: tuple[str, ...] = ()) -> tuple[str, int]:
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
        text, tags = _TAG_LIKE.subn(r"(\1)", text)
        text, disarmed = control_tokens.disarm(text, controls)
        if not tags + disarmed:
            return text, count
        count += tags + disarmed


def render_observation(reply: str | None) -> str:
    """The information block of a reply; a failed call gives the block of ``None``."""
    text = "None" if reply is None else neutralise(reply)[0].strip()
    return f"{OPEN}{text}{CLOSE}"


def encode_observation(
    reply: str | None, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> Observation:
    """The block of a reply, at most ``max_tokens`` tokens, cut inside the tags.

    Raises:
        ValueError: if the empty block alone is longer.
    """
    inner, neutralised = "None", 0
    if reply is not None:
        # Encoding a megabyte would hold every other trajectory up.
        bounded = reply[: max_tokens * MAX_CHARACTERS_PER_TOKEN]
        inner, neutralised = neutralise(bounded, control_texts(tokenizer))
        inner = inner.strip()
    ids = _encode(inner, tokenizer)
    while len(ids) > max_tokens:
        if not inner:
            raise ValueError(
                f"data.max_obs_length={max_tokens} tokens leaves no room for an information block "
                f"({len(ids)} tokens); raise it"
            )
        # Keep the share of characters that the budget allows, and at least one fewer.
        inner = inner[: min(len(inner) - 1, int(len(inner) * max_tokens / len(ids)))].rstrip()
        ids = _encode(inner, tokenizer)
    return Observation(ids, f"{OPEN}{inner}{CLOSE}", neutralised)


def _encode(inner: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer.encode(f"{OPEN}{inner}{CLOSE}", add_special_tokens=False))
