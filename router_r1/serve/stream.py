"""What a streamed trajectory tells while it is made.

Guarantees: the reasoning of all chunks, joined, is that of the plain completion; beside it each
turn, each call, its result and the reply that the policy reads make one event, in this order.

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
from typing import Any

from router_r1.llm_agent.parsing import Action
from router_r1.pool.outcome import CallResult
from router_r1.serve.protocol import Completion
from router_r1.serve.reasoning import ReasoningObserver

_FIGURES = (
    *("prompt_tokens", "completion_tokens", "cost", "dollars", "latency_s"),
    *("usage_estimated", "replayed"),
)


class StreamObserver(ReasoningObserver):
    """Gives ``send`` a chunk, which ``completion`` builds, of all that happens."""

    def __init__(
        self,
        completion: Completion,
        send: Callable[[dict[str, Any]], None],
        on_call_end: Callable[[CallResult], None],
    ) -> None:
        super().__init__(lambda text: send(completion.chunk(reasoning_content=text)), on_call_end)
        self._completion = completion
        self._send = send
        self._call = -1  # the newest

    def on_turn_end(self, action: Action) -> None:
        """Settles the turn's text, then ends it."""
        super().on_turn_end(action)
        self._tell({"event": "turn", "action": action.kind, "reason": action.reason})

    def on_call(self, name: str, query: str) -> None:
        """Names LLM and query as the policy wrote them."""
        self._call += 1
        self._tell({"event": "call", "call": self._call, "llm": name, "query": query})

    def on_result(self, result: CallResult) -> None:
        """Sends the call's outcome, tokens, cost and time."""
        super().on_result(result)
        ended = {"llm": result.llm, "outcome": result.outcome.value}
        figures = {name: getattr(result, name) for name in _FIGURES}
        self._tell({"event": "result", "call": self._call, **ended, **figures})

    def on_observation(self, block: str) -> None:
        """The block is reasoning, and marked as not the policy's."""
        self._tell({"event": "information", "call": self._call}, reasoning_content=block)

    def _tell(self, event: dict[str, Any], **delta: str) -> None:
        self._send(self._completion.chunk(**delta) | {"router": event})
