"""Cuts a trajectory's text into the blocks that a reader sees.

Guarantees: the blocks, in order, hold all that the response says; a block is an observation only
if the agent put it there, not if the policy wrote its tags itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_BLOCK = re.compile(r"<(think|search|information|answer)>(.*?)</\1>", re.DOTALL)
_OPEN, _CLOSE = "\n\n<information>", "</information>\n\n"
OBSERVATION, FORGED, LOOSE = "observation", "forged", "loose"


@dataclass(frozen=True)
class Block:
    """A piece of a response.

    Attributes:
        kind: think, search, answer, observation (from the agent), forged (an information block
            that the policy wrote) or loose (outside of every tag).
        text: without the tags; white space at the ends of loose text is left out.
        call: index of the call that a search made or an observation came from, else None.
    """

    kind: str
    text: str
    call: int | None = None


def split_response(extras: dict[str, Any]) -> list[Block]:
    """Blocks of a trajectory, from the agent's ``response_text``, ``policy_text`` and ``calls``."""
    calls = len(extras.get("calls", ()))
    blocks: list[Block] = []
    next_call = 0
    for text, is_observation in _turns(extras.get("response_text", ""), extras["policy_text"]):
        if is_observation:
            call = next_call if next_call < calls else None
            _link_search(blocks, call)
            blocks.append(Block(OBSERVATION, text, call))
            next_call += 1
        else:
            blocks.extend(_policy_blocks(text))
    if next_call < calls:  # no room was left for the last reply
        _link_search(blocks, next_call)
    return blocks


def _turns(response: str, policy: str) -> list[tuple[str, bool]]:
    """(text, whether the agent wrote it): the response without these is the policy's text."""
    turns: list[tuple[str, bool]] = []
    at = read = 0  # positions in the response and in the policy's text
    while at < len(response):
        start = response.find(_OPEN, at)
        end = response.find(_CLOSE, start) + len(_CLOSE) if start >= 0 else 0
        if end < len(_CLOSE):  # not found
            turns.append((response[at:], False))
            break
        block = response[start:end]
        read += start - at
        if policy.startswith(block, read):  # the policy wrote it
            turns.append((response[at:end], False))
            read += len(block)
        else:
            turns.append((response[at:start], False))
            turns.append((block[len(_OPEN) : -len(_CLOSE)], True))
        at = end
    return turns


def _policy_blocks(text: str) -> list[Block]:
    blocks: list[Block] = []
    at = 0
    for match in _BLOCK.finditer(text):
        blocks.extend(_loose(text[at : match.start()]))
        kind = match.group(1)
        blocks.append(Block(FORGED if kind == "information" else kind, match.group(2)))
        at = match.end()
    blocks.extend(_loose(text[at:]))
    return blocks


def _loose(text: str) -> list[Block]:
    return [Block(LOOSE, text.strip())] if text.strip() else []


def _link_search(blocks: list[Block], call: int | None) -> None:
    """Notes at the last search that it made the call."""
    for i in range(len(blocks) - 1, -1, -1):
        if blocks[i].kind == "search" and blocks[i].call is None:
            blocks[i] = Block("search", blocks[i].text, call)
            return
