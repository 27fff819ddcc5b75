"""The format rules: 0.0 if all hold, else a penalty.

The rules come in three groups, each with its own penalty, as docs/method.md numbers them: tags that
are broken (1 to 4), a response whose blocks are not those of a router's answer (5 to 7), and a call
that cannot be routed (8 and 9).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from router_r1.llm_agent.parsing import PLACEHOLDERS
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import paper_pool
from router_r1.pool.offer import OfferedNames
from router_r1.tags import ANSWER, DEFAULT_TAGS, INFORMATION, SEARCH, THINK, Block, Tags


@dataclass
class FormatPenalties:
    """Reward of a response that breaks a rule of the group; the original's are all -1."""

    broken_tags: float = -1.0
    wrong_structure: float = -1.0
    bad_call: float = -1.0


def format_reward(
    response: str,
    pool: PoolConfig | OfferedNames | None = None,
    penalties: FormatPenalties | None = None,
    tags: Tags = DEFAULT_TAGS,
) -> float:
    """0.0 for a well-formed response, else the penalty of the first group it fails.

    Args:
        response: from the first generated token, without end-of-text tokens.
        pool: decides which names a call may use, or those that the question was offered; the
            paper's pool by default.
    """
    penalties = penalties or FormatPenalties()
    blocks = tags.blocks(response)
    if _tags_are_broken(response, blocks, tags):
        return penalties.broken_tags
    if not _structure_is_right(response, blocks):
        return penalties.wrong_structure
    searches = [block.text for block in blocks if block.kind == SEARCH]
    if not all(call_is_valid(text, pool or paper_pool()) for text in searches):
        return penalties.bad_call
    return 0.0


def _tags_are_broken(response: str, blocks: list[Block], tags: Tags) -> bool:
    """No complete block, tags without partner, a thought without words, a tag inside a block."""
    if not blocks or not tags.are_paired(response):
        return True
    if any(block.kind == THINK and block.text.strip() in ("", "...") for block in blocks):
        return True
    return any(any(tags.find(block.text)) for block in blocks)


def _structure_is_right(response: str, blocks: list[Block]) -> bool:
    """One answer, a thought, as many replies as calls; thought first, answer last."""
    counts = Counter(block.kind for block in blocks)
    text = response.strip()
    return (
        counts[ANSWER] == 1
        and counts[THINK] > 0
        and counts[SEARCH] == counts[INFORMATION]
        and text.startswith("<think>")
        and text.endswith("</answer>")
    )


def call_is_valid(content: str, pool: PoolConfig | OfferedNames) -> bool:
    """Whether a search block's content is ``name: query`` with a name of the pool.

    There is exactly one ":", no placeholder, and the query does not contain the name.
    """
    lowered = content.strip().lower()
    name, separator, query = lowered.partition(":")
    name, query = name.strip(), query.strip()
    if not separator or ":" in query or not query:
        return False
    if any(placeholder in lowered for placeholder in PLACEHOLDERS) or name in query:
        return False
    return pool.resolve(name) is not None
