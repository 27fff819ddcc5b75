"""How much of a conversation the router gets: as much as its longest prompt has room for.

Guarantees: the question and the system message are never cut; earlier turns are left out from the
oldest on, as few as it takes, and what is left does not begin with the answer to a question that
was left out; the warnings tell what the router got.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from router_r1.pool.outcome import MAX_CHARACTERS_PER_TOKEN
from router_r1.serve.conversation import USER, Conversation
from router_r1.serve.errors import too_long
from router_r1.tags import Tags


@dataclass(frozen=True)
class Fitted:
    """``question``: what the router is asked; ``warnings``: what a client should know of it."""

    question: str
    warnings: tuple[str, ...]


def fit_conversation(
    conversation: Conversation, prompt_length: Callable[[str], int], longest: int, tags: Tags
) -> Fitted:
    """The question that a conversation puts to a router.

    Args:
        prompt_length: tokens of the prompt that a question makes.
        longest: prompt, tokens.
        tags: of the router.

    Raises:
        APIError: 400, if the question is too long with the system message alone. One without a
            system message is not measured.
    """
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
