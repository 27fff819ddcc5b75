"""Takes the reasoning out of a reply: the policy reads what an LLM says, not what it thinks.

Guarantees: time linear in the text, whatever its tags; text without such tags comes back as it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_TAG = re.compile(r"<(/?)(?:(?i:think|thinking|thought|reasoning))>|\[(/?)THINK\]")
_MESSAGE_FIELDS = ("reasoning_content", "reasoning", "thinking")
_TEXT_PARTS = ("text", "output_text")


@dataclass(frozen=True)
class Said:
    """What a message says, and what was thought, as far as the endpoint shows it."""

    text: str
    reasoning: str


def split_reasoning(text: str) -> Said:
    """Parts a text at its tags (``<think>``, ``[THINK]`` and the like).

    What follows an opening tag that is never closed is reasoning, and so is what precedes a closing
    tag that was never opened: some chat templates open it in the prompt.
    """
    said: list[str] = []
    thought: list[str] = []
    inside, start = False, 0
    for tag in _TAG.finditer(text):
        piece = text[start : tag.start()]
        closes = bool(tag.group(1) or tag.group(2))
        if closes and not inside:
            thought += [*said, piece]
            said.clear()
        else:
            (thought if inside else said).append(piece)
        inside, start = not closes, tag.end()
    if not start:
        return Said(text, "")
    (thought if inside else said).append(text[start:])
    return Said("".join(said).strip(), "".join(thought))


def read_message(message: dict[str, Any]) -> Said:
    """Text and reasoning of a chat completion's message; a refusal is what the LLM says. Raises
    :class:`TypeError` unless ``content`` is a text, null, or a list of parts."""
    content = message.get("content")
    if content is not None and not isinstance(content, str | list):
        raise TypeError(f"content is a {type(content).__name__}")
    pieces: list[str] = []
    thought = [str(message[name]) for name in _MESSAGE_FIELDS if message.get(name)]
    parts: list[Any] = [content] if isinstance(content, str) else content or []
    for part in parts:
        readable = isinstance(part, dict) and part.get("type", "text") in _TEXT_PARTS
        text = part.get("text") if readable else part
        if isinstance(text, str):
            pieces.append(text)
        else:
            thought.append(str(part))
    refusal = message.get("refusal")
    if isinstance(refusal, str) and not any(piece.strip() for piece in pieces):
        pieces.append(refusal)
    said = split_reasoning("".join(pieces))
    return Said(said.text, "\n".join([*thought, said.reasoning]).strip())
