"""From a reply to the text and tokens that the policy reads.

Guarantees: whatever a reply holds, exactly one well-formed information block comes of it, with no
other tag and no chat control token inside; cutting to length happens inside the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from router_r1.pool.outcome import MAX_CHARACTERS_PER_TOKEN
from router_r1.tags import DEFAULT_TAGS, INFORMATION_CLOSE, INFORMATION_OPEN, Tags
from verl.utils.control_tokens import control_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Observation:
    """An information block, as tokens and text; ``neutralised`` counts tags and control tokens of
    the reply that lost their power."""

    token_ids: list[int]
    text: str
    neutralised: int


def render_observation(reply: str | None, tags: Tags = DEFAULT_TAGS) -> str:
    """The information block of a reply; a failed call gives the block of ``None``."""
    return _block("None" if reply is None else tags.neutralise(reply)[0].strip())


def encode_observation(
    reply: str | None,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    tags: Tags = DEFAULT_TAGS,
) -> Observation:
    """The block of a reply, at most ``max_tokens`` tokens, cut inside the tags.

    Raises:
        ValueError: if the empty block alone is longer.
    """
    inner, neutralised = "None", 0
    if reply is not None:
        # Encoding a megabyte would hold every other trajectory up.
        bounded = reply[: max_tokens * MAX_CHARACTERS_PER_TOKEN]
        inner, neutralised = tags.neutralise(bounded, control_texts(tokenizer))
        inner = inner.strip()
    ids = tokenizer.encode(_block(inner), add_special_tokens=False)
    while len(ids) > max_tokens:
        if not inner:
            raise ValueError(
                f"data.max_obs_length={max_tokens} tokens leaves no room for an information block "
                f"({len(ids)} tokens); raise it"
            )
        # Keep the share of characters that the budget allows, and at least one fewer.
        inner = inner[: min(len(inner) - 1, int(len(inner) * max_tokens / len(ids)))].rstrip()
        ids = tokenizer.encode(_block(inner), add_special_tokens=False)
    return Observation(ids, _block(inner), neutralised)


def _block(inner: str) -> str:
    return f"{INFORMATION_OPEN}{inner}{INFORMATION_CLOSE}"
