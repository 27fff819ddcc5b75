"""Tells what a trajectory reasons from what it answers, while it is made.

Guarantees: the reasoning is the trajectory's text, tags included, without its answer block; an
answer block that proves to be none (the turn asks instead) is reasoning.
"""

from __future__ import annotations

from collections.abc import Callable

from router_r1.llm_agent.observer import TrajectoryObserver
from router_r1.llm_agent.parsing import Action
from router_r1.pool.outcome import CallResult

_OPEN = "<answer>"


class ReasoningObserver(TrajectoryObserver):
    """Passes on the reasoning as soon as it is certain.

    Args:
        on_reasoning: gets each piece.
        on_call_end: gets each call's result.
    """

    def __init__(
        self, on_reasoning: Callable[[str], None], on_call_end: Callable[[CallResult], None]
    ) -> None:
        self._on_reasoning = on_reasoning
        self._on_call_end = on_call_end
        self._held = ""  # of this turn: from what may be the opening of the answer on

    def on_text(self, delta: str) -> None:
        """Passes text on up to what may be the opening of the answer."""
        self._held += delta
        certain = _certain_length(self._held)
        self._pass_on(self._held[:certain])
        self._held = self._held[certain:]

    def on_turn_end(self, action: Action) -> None:
        """Passes on what was held back, unless it is the answer."""
        if action.kind != "answer":
            self._pass_on(self._held)
        self._held = ""

    def on_observation(self, block: str) -> None:
        """Passes on the block that the policy reads: it is part of the reasoning."""
        self._pass_on(block)

    def on_result(self, result: CallResult) -> None:
        """Hands the call to ``on_call_end``."""
        self._on_call_end(result)

    def _pass_on(self, text: str) -> None:
        if text:
            self._on_reasoning(text)


def _certain_length(text: str) -> int:
    """Characters of ``text`` that stand before an opening answer tag, or the beginning of one."""
    start = text.find(_OPEN)
    if start >= 0:
        return start
    start = text.rfind("<")
    return start if start >= 0 and _OPEN.startswith(text[start:]) else len(text)
