"""Cuts a trajectory's text into the blocks that a reader sees.

Guarantees: the blocks, in order, hold all that the response says; a block is an observation only
if the agent put it there, not if the policy wrote its tags itself.
"""

from __future__ import annotations

from typing import NamedTuple

from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.tags import INFORMATION, INFORMATION_CLOSE, INFORMATION_OPEN, SEARCH, Tags

OBSERVATION, FORGED, LOOSE = "observation", "forged", "loose"


class Block(NamedTuple):
    """A piece of a response.

    Attributes:
        kind: think, search, answer, observation (from the agent), forged (an information block
            that the policy wrote) or loose (outside of every tag).
        text: without the tags, and loose text without white space at its ends.
        call: index of the call that a search made or an observation came from, else None.
    """

    kind: str
    text: str
    call: int | None = None


def split_response(trajectory: RoutedTrajectory) -> list[Block]:
    """Blocks of a trajectory; those of turns between which the policy read nothing are found in
    their joined text."""
    blocks: list[Block] = []
    written, calls = trajectory.opened, 0
    for turn in trajectory.turns:
        written += turn.text
        if turn.call is None:
            continue
        blocks += _policy_blocks(written, trajectory.tags, calls)
        if turn.observation:  # else no room was left for the reply
            inner = turn.observation[len(INFORMATION_OPEN) : -len(INFORMATION_CLOSE)]
            blocks.append(Block(OBSERVATION, inner, calls))
        written, calls = "", calls + 1
    return blocks + _policy_blocks(written, trajectory.tags)


def _policy_blocks(text: str, tags: Tags, call: int | None = None) -> list[Block]:
    """What the policy wrote; its last search made the call."""
    blocks: list[Block] = []
    found, at = tags.blocks(text), 0
    searches = [block for block in found if block.kind == SEARCH]
    for block in found:
        blocks += _loose(text[at : block.start])
        kind = FORGED if block.kind == INFORMATION else block.kind
        blocks.append(Block(kind, block.text, call if block in searches[-1:] else None))
        at = block.end
    return blocks + _loose(text[at:])


def _loose(text: str) -> list[Block]:
    return [Block(LOOSE, text.strip())] if text.strip() else []
