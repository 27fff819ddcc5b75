"""Tells what happens in a trajectory while it is made: what a completion has of it beside the
answer, and a stream's events.

Guarantees: the reasoning is the trajectory's text, tags included, without its answer block; an
answer block that proves to be none (the turn asks instead) is reasoning. Beside it each turn, each
call, its result and the reply that the policy reads make one event, in this order.

An event stands in a chunk's extension field ``router``, which clients of the OpenAI API ignore:

- ``{"event": "turn", "action": "search" | "answer" | "invalid", "reason": …}`` ends a turn;
  ``reason`` is :attr:`router_r1.llm_agent.parsing.Action.reason`.
- ``{"event": "call", "call": n, "llm": …, "query": …}``: the LLM is asked, ``n`` counts from 0.
- ``{"event": "result", "call": n, "llm": …, "outcome": …, "prompt_tokens": …,
  "completion_tokens": …, "cost": …, "dollars": …, "latency_s": …, "usage_estimated": …,
  "replayed": …}``: it replied or failed; the fields are those of the last chunk's ``calls``.
- ``{"event": "information", "call": n}``: this chunk's ``reasoning_content`` is the block that
  the policy reads. Other reasoning, whatever tags it holds, was written by the policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router_r1.llm_agent.observer import TrajectoryObserver
from router_r1.llm_agent.parsing import Action
from router_r1.pool.outcome import CallResult

_OPEN = "<answer>"
_FIGURES = (
    *("prompt_tokens", "completion_tokens", "cost", "dollars", "latency_s"),
    *("usage_estimated", "replayed"),
)
Event = dict[str, Any]


@dataclass
class StreamObserver(TrajectoryObserver):
    """Passes on the reasoning as soon as it is certain, and the events. ``tell`` gets a piece of
    the reasoning, an event, or both; what it does not get is "" or None."""

    tell: Callable[[str, Event | None], None]
    on_call_end: Callable[[CallResult], None]
    _held: str = field(default="", init=False)  # of this turn, from what may open the answer on
    _call: int = field(default=-1, init=False)  # the newest

    def on_text(self, delta: str) -> None:
        """Passes text on up to what may be the opening of the answer."""
        self._held += delta
        certain = _certain_length(self._held)
        self._pass_on(self._held[:certain])
        self._held = self._held[certain:]

    def on_turn_end(self, action: Action) -> None:
        """Passes on what was held back, unless it is the answer, and ends the turn."""
        if action.kind != "answer":
            self._pass_on(self._held)
        self._held = ""
        self.tell("", {"event": "turn", "action": action.kind, "reason": action.reason})

    def on_call(self, name: str, query: str) -> None:
        """Names LLM and query as the policy wrote them."""
        self._call += 1
        self.tell("", {"event": "call", "call": self._call, "llm": name, "query": query})

    def on_result(self, result: CallResult) -> None:
        """Tells the call's outcome, tokens, cost and time."""
        self.on_call_end(result)
        ended = {"llm": result.llm, "outcome": result.outcome.value}
        figures = {name: getattr(result, name) for name in _FIGURES}
        self.tell("", {"event": "result", "call": self._call, **ended, **figures})

    def on_observation(self, block: str) -> None:
        """The block is reasoning, and marked as not the policy's."""
        self.tell(block, {"event": "information", "call": self._call})

    def _pass_on(self, text: str) -> None:
        if text:
            self.tell(text, None)


def _certain_length(text: str) -> int:
    """Characters of ``text`` that stand before an opening answer tag, or the beginning of one."""
    start = text.find(_OPEN)
    if start >= 0:
        return start
    start = text.rfind("<")
    return start if start >= 0 and _OPEN.startswith(text[start:]) else len(text)
