"""What one turn of the policy asks for.

The first complete ``<search>…</search>`` or ``<answer>…</answer>`` of a turn is its action; nothing
else in the turn asks for anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ACTION = re.compile(r"<(search|answer)>(.*?)</\1>", re.DOTALL)
PLACEHOLDERS = ("llm-name", "your-query")


@dataclass(frozen=True)
class Action:
    """A parsed turn.

    Attributes:
        kind: "search", "answer" or "invalid".
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


def extract_answer(text: str) -> str | None:
    """The last answer block's content, stripped; None if there is none."""
    matches = re.findall(r"<answer>(.*?)</answer>", text, re.DOTALL)
    return matches[-1].strip() if matches else None


def parse_action(text: str) -> Action:
    """The first complete search or answer of a turn; a search that breaks a rule is "invalid"."""
    match = _ACTION.search(text)
    if match is None:
        return Action("invalid", "", "no-action")
    kind, content = match.group(1), match.group(2).strip()
    if kind == "answer":
        return Action("answer", content)
    reason = search_fault(content)
    return Action("invalid", content, reason) if reason else Action("search", content)


def search_fault(content: str) -> str:
    """Why a search's content cannot be routed; "" if it can."""
    lowered = content.lower()
    if any(placeholder in lowered for placeholder in PLACEHOLDERS):
        return "invalid-1"
    if ":" not in content:
        return "invalid-2"
    if not content.rsplit(":", 1)[-1].strip():
        return "invalid-3"
    return ""
