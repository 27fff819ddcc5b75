"""The one question that a conversation puts to the router.

A router is trained on single questions. What else a conversation holds (a system message, earlier
turns) goes before the question, in the order in which it was said, so that nothing is lost.

Guarantees: a conversation of one user message is that message, unchanged; what cannot reach the
router is refused, naming the field, or listed in the warnings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router_r1.llm_agent.question import is_unicode
from router_r1.serve.errors import malformed

_INSTRUCTING = ("system", "developer")
_SPEAKERS = {"user": "User", "assistant": "Assistant"}
_NOT_TRAINED_ON = (
    "the router is trained on single questions; it gets {what} as text before the question"
)


@dataclass(frozen=True)
class Conversation:
    """``question``: what the router is asked; ``warnings``: what a client should know of it."""

    question: str
    warnings: tuple[str, ...] = ()


def read_conversation(messages: Any) -> Conversation:
    """Reads the ``messages`` of a request.

    Raises:
        APIError: 400, naming ``messages``, if one of them cannot be used.
    """
    if not isinstance(messages, list) or not messages:
        raise malformed("messages must be a list with at least one message", "messages")
    spoken = [_read_message(message) for message in messages]
    asked = [i for i, (role, _) in enumerate(spoken) if role == "user"]
    if not asked:
        raise malformed("messages must hold a user message: the question", "messages")
    question = spoken[asked[-1]][1]
    if not question.strip():
        raise malformed("the last user message has no text", "messages")
    warnings = []
    if any(text.strip() for _, text in spoken[asked[-1] + 1 :]):
        warnings.append("what follows the last user message is ignored: no answer can be begun")
    before = [(role, text.strip()) for role, text in spoken[: asked[-1]] if text.strip()]
    instructions = [text for role, text in before if role in _INSTRUCTING]
    turns = [f"{_SPEAKERS[role]}: {text}" for role, text in before if role in _SPEAKERS]
    if not before:
        return Conversation(question, tuple(warnings))
    what = [
        name
        for name, there in (("the system message", instructions), ("earlier turns", turns))
        if there
    ]
    warnings.append(_NOT_TRAINED_ON.format(what=" and ".join(what)))
    return Conversation(_join(instructions, turns, question), tuple(warnings))


def _read_message(message: Any) -> tuple[str, str]:
    """Role and text."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise malformed("each message must be an object with a role", "messages")
    role, content = message["role"], message.get("content")
    if role not in (*_INSTRUCTING, *_SPEAKERS):
        raise malformed(f"messages of the role {role!r} are not supported", "messages")
    if isinstance(content, list):
        content = "".join(map(_text_part, content))
    if content is None and role == "assistant":
        content = ""
    if not isinstance(content, str):
        raise malformed(f"a message of the role {role!r} has no text", "messages")
    if not is_unicode(content):
        raise malformed(
            f"a message of the role {role!r} holds half of a character (a lone surrogate)",
            "messages",
        )
    return role, content


def _text_part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise malformed("a message may hold text only", "messages")


def _join(instructions: Sequence[str], turns: Sequence[str], question: str) -> str:
    parts = list(instructions)
    if turns:
        parts.append("The conversation so far:\n" + "\n".join(turns))
    parts.append(f"Now answer this: {question.strip()}")
    return "\n\n".join(parts)
