"""What one turn of the policy asks for.

The first complete ``<search>…</search>`` (or what else the routing tag is called) or
``<answer>…</answer>`` of a turn is its action; nothing else in the turn asks for anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from router_r1.tags import ANSWER, DEFAULT_TAGS, SEARCH, Tags

PLACEHOLDERS = ("llm-name", "your-query")


@dataclass(frozen=True)
class Action:
    """A parsed turn.

    Attributes:
        kind: "search" (whatever the routing tag is called), "answer" or "invalid".
        content: what stood between the tags, stripped; "" if there was no pair.
        reason: why an action is invalid, "" otherwise: "no-action" (no complete pair),
            "invalid-1" (a placeholder), "invalid-2" (no ":") or "invalid-3" (no query).
    """

    kind: str
    content: str
    reason: str = ""

    @property
    def llm_name(self) -> str:
        """The name part of a search: before the first ":"."""
        return self.content.split(":", 1)[0].strip()

    @property
    def query(self) -> str:
        """The query part of a search: all after the first ":"."""
        return self.content.split(":", 1)[-1].strip()


def parse_action(text: str, tags: Tags = DEFAULT_TAGS) -> Action:
    """The first complete search or answer of a turn; a search that breaks a rule is "invalid"."""
    block = tags.action(text)
    if block is None:
        return Action("invalid", "", "no-action")
    content = block.text.strip()
    if block.kind == ANSWER:
        return Action(ANSWER, content)
    if any(placeholder in content.lower() for placeholder in PLACEHOLDERS):
        return Action("invalid", content, "invalid-1")
    if ":" not in content:
        return Action("invalid", content, "invalid-2")
    if content.endswith(":"):
        return Action("invalid", content, "invalid-3")
    return Action(SEARCH, content)
