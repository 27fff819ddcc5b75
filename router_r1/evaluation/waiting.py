"""How long a question waits for its calls.

Guarantees: calls of one turn are made at once and turns follow each other, so that a question waits
for the slowest call of each turn; what the policy itself takes is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from router_r1.llm_agent.trajectory import QuestionRecord


def seconds_waited(calls: Iterable[tuple[int, float]]) -> float:
    """From the turn and the seconds of each call."""
    slowest: dict[int, float] = {}
    for turn, seconds in calls:
        slowest[turn] = max(seconds, slowest.get(turn, 0.0))
    return sum(slowest.values())


@dataclass(frozen=True)
class TimedQuestion(QuestionRecord):
    """Of what an agent told of a question, how long it waited for its calls.

    Attributes:
        latency_s: seconds; None where the agent does not tell its calls as a router does.
    """

    latency_s: float | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TimedQuestion:
        """From what a router's or another agent's record wrote."""
        try:
            calls = [(call["turn"], call["latency_s"]) for call in content["calls"]]
        except (KeyError, TypeError):
            return cls()
        return cls(seconds_waited(calls))
