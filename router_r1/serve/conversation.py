"""What a conversation holds, and the one question that it puts to the router.

A router is trained on single questions, in a prompt that has one place for one. What else a
conversation holds (a system message, earlier turns) therefore goes into that place, before the
question, in the order in which it was said, as much as the longest prompt has room for; to send it
as chat messages of its own would make prompts of a form that no training has shown.

Guarantees: a conversation of one user message is that message, unchanged; what cannot reach the
router is refused, naming the field, or listed in the warnings. An earlier turn is one line that
begins with its speaker, whatever stands in it: it can pass neither for another turn nor for the
question, and holds no tag. The question and the system message are never cut; earlier turns are
left out from the oldest on, as few as it takes, and what is left does not begin with the answer to
a question that was left out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from router_r1.llm_agent.question import is_unicode
from router_r1.pool.outcome import MAX_CHARACTERS_PER_TOKEN
from router_r1.serve.errors import malformed, too_long
from router_r1.tags import Tags

USER, ASSISTANT = "user", "assistant"
_INSTRUCTING = ("system", "developer")
_SPEAKERS = {USER: "User", ASSISTANT: "Assistant"}


@dataclass(frozen=True)
class Spoken:
    """A message: ``role`` is :data:`USER`, :data:`ASSISTANT` or one that instructs."""

    role: str
    text: str

    @property
    def line(self) -> str:
        """Speaker (user or assistant) and text, in one line."""
        return f"{_SPEAKERS[self.role]}: {' '.join(self.text.split())}"


@dataclass(frozen=True)
class Conversation:
    """What a client has sent: ``question`` is the last user message; system messages before it are
    ``instructions``, user and assistant messages before it ``turns``, and none of them is blank;
    ``warnings`` say what was not read."""

    question: str
    instructions: tuple[str, ...] = ()
    turns: tuple[Spoken, ...] = ()
    warnings: tuple[str, ...] = ()

    def without_tags(self, tags: Tags) -> Conversation:
        """With tags that have lost their power in all but the question."""
        return replace(
            self,
            instructions=tuple(tags.neutralise(text)[0] for text in self.instructions),
            turns=tuple(Spoken(t.role, tags.neutralise(t.text)[0]) for t in self.turns),
        )

    def text(self, start: int) -> str:
        """What the router is asked, with the earlier turns from the one at ``start`` on."""
        parts = list(self.instructions)
        if lines := [turn.line for turn in self.turns[start:]]:
            parts.append("The conversation so far:\n" + "\n".join(lines))
        if not parts:
            return self.question
        return "\n\n".join([*parts, f"Now answer this: {self.question.strip()}"])


class Fitted(NamedTuple):
    """``question``: what the router is asked; ``warnings``: what a client should know of it."""

    question: str
    warnings: tuple[str, ...]


def read_conversation(messages: Any) -> Conversation:
    """Reads the ``messages`` of a request; an :class:`APIError` 400 names what cannot be used."""
    if not isinstance(messages, list) or not messages:
        raise malformed("messages must be a list with at least one message", "messages")
    spoken = [_read_message(message) for message in messages]
    last = max((i for i, said in enumerate(spoken) if said.role == USER), default=None)
    if last is None:
        raise malformed("messages must hold a user message: the question", "messages")
    question = spoken[last].text
    if not question.strip():
        raise malformed("the last user message has no text", "messages")
    ignored = "what follows the last user message is ignored: no answer can be begun"
    is_followed = any(said.text.strip() for said in spoken[last + 1 :])
    before = [Spoken(said.role, said.text.strip()) for said in spoken[:last] if said.text.strip()]
    return Conversation(
        question,
        tuple(said.text for said in before if said.role in _INSTRUCTING),
        tuple(said for said in before if said.role in _SPEAKERS),
        (ignored,) if is_followed else (),
    )


def fit_conversation(
    conversation: Conversation, prompt_length: Callable[[str], int], longest: int, tags: Tags
) -> Fitted:
    """The question that a conversation puts to a router, whose longest prompt has ``longest``
    tokens; ``prompt_length`` gives those of the prompt that a question makes. Raises an
    :class:`APIError` 400 if the question is too long with the system message alone; one without a
    system message is not measured."""
    conversation = conversation.without_tags(tags)
    turns = conversation.turns
    starts = [0, *(i for i, turn in enumerate(turns) if i and turn.role == USER), len(turns)]

    def fits(start: int) -> bool:
        text = conversation.text(start)
        # To count the tokens of a text that is far too long would hold other requests up.
        return len(text) <= longest * MAX_CHARACTERS_PER_TOKEN and prompt_length(text) <= longest

    start = 0
    if turns and not fits(0):
        start = starts[min(bisect_left(starts, True, key=fits), len(starts) - 1)]
    if conversation.instructions and start == len(turns) and not fits(start):
        raise too_long(
            "the system message and the last user message make a prompt of more than the "
            f"{longest} tokens that are allowed",
            "messages",
        )
    warnings = list(conversation.warnings)
    given = {"the system message": conversation.instructions, "earlier turns": turns[start:]}
    if what := " and ".join(name for name, there in given.items() if there):
        warnings.append(
            f"the router is trained on single questions; it gets {what} as text before the question"
        )
    if start:
        warnings.append(
            f"the oldest {start} of {len(turns)} earlier messages are left out: with them the "
            f"prompt is longer than the {longest} tokens that are allowed"
        )
    return Fitted(conversation.text(start), tuple(warnings))


def _read_message(message: Any) -> Spoken:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise malformed("each message must be an object with a role", "messages")
    role, content = message["role"], message.get("content")
    if role not in (*_INSTRUCTING, *_SPEAKERS):
        raise malformed(f"messages of the role {role!r} are not supported", "messages")
    if isinstance(content, list):
        content = "".join(map(_text_part, content))
    if content is None and role == ASSISTANT:
        content = ""
    if not isinstance(content, str):
        raise malformed(f"a message of the role {role!r} has no text", "messages")
    if not is_unicode(content):
        raise malformed(
            f"a message of the role {role!r} holds half of a character (a lone surrogate)",
            "messages",
        )
    return Spoken(role, content)


def _text_part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise malformed("a message may hold text only", "messages")
