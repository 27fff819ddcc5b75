"""A routed trajectory: what the policy wrote turn by turn, the calls it made and what they brought.

Guarantees: every figure of a trajectory (its answer, its cost, how many calls failed …) is derived
from its turns, here and nowhere else; :meth:`RoutedTrajectory.from_json` gives back what
:meth:`RoutedTrajectory.to_json` wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from router_r1.pool.offer import OfferedNames
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.tags import DEFAULT_TAGS, Tags, extract_answer
from verl.trajectory import AgentRecord, TrajectoryStatus

_BILLED = ("prompt_tokens", "completion_tokens", "cost", "dollars", "latency_s")
_REMARKS = ("usage_estimated", "replayed")


@dataclass(frozen=True)
class Call:
    """A query to an LLM of the pool, and how the call ended, what it brought and cost;
    ``neutralised`` counts tags and control tokens of the reply that lost their power."""

    query: str
    result: CallResult
    neutralised: int = 0

    @property
    def ok(self) -> bool:
        """Whether a reply came."""
        return self.result.outcome is Outcome.OK

    def to_json(self) -> dict[str, Any]:
        """As plain data; what the endpoint said of a failure (``detail``) is left out."""
        return {
            "llm": self.result.llm,
            "query": self.query,
            "outcome": self.result.outcome.value,
            "reply": self.result.text,
            **{name: getattr(self.result, name) for name in _BILLED},
            "neutralised": self.neutralised,
            **{name: getattr(self.result, name) for name in _REMARKS},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Call:
        """What :meth:`to_json` gave."""
        figures = {name: content[name] for name in (*_BILLED, *_REMARKS)}
        outcome = Outcome(content["outcome"])
        result = CallResult(content["llm"], outcome, content["reply"], **figures)
        return cls(content["query"], result, content["neutralised"])


@dataclass(frozen=True)
class Turn:
    """One generation of the policy and what came of it.

    Attributes:
        text: what the policy wrote, without special tokens, up to and with its stop string.
        call: that it made; None if it made none.
        observation: the information block that the policy read next; "" if it read none, because
            there was no call or no room.
    """

    text: str
    call: Call | None = None
    observation: str = ""


@dataclass(frozen=True)
class QuestionRecord(AgentRecord):
    """What anyone who answers questions tells, a router or a baseline."""

    prompt_name = "question"


@dataclass(frozen=True)
class RoutedTrajectory(QuestionRecord):
    """What became of one question.

    Attributes:
        opened: what the chat template wrote of the policy's first thought; counts as its own.
        neutralised: tags and control tokens of the question that lost their power.
        cost_coe: what cost counts for the question, as its prompt states it; None where it does
            not.
        offered: the names that the question's LLMs went by; None where they are the pool's.
    """

    status: TrajectoryStatus
    turns: tuple[Turn, ...]
    opened: str = ""
    neutralised: int = 0
    tags: Tags = DEFAULT_TAGS
    cost_coe: float | None = None
    offered: OfferedNames | None = None

    @property
    def response_text(self) -> str:
        """All after the prompt: what the policy wrote, and what it read."""
        return self.opened + "".join(turn.text + turn.observation for turn in self.turns)

    @property
    def policy_text(self) -> str:
        """What the policy itself wrote."""
        return self.opened + "".join(turn.text for turn in self.turns)

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls, in order."""
        return tuple(turn.call for turn in self.turns if turn.call is not None)

    @property
    def answer(self) -> str | None:
        """The last answer block of the policy's own text, stripped; None if there is none."""
        return extract_answer(self.policy_text)

    @property
    def finished(self) -> bool:
        """Whether it ended with an answer."""
        return self.status is TrajectoryStatus.ANSWERED

    @property
    def routed_calls(self) -> int:
        """Calls that brought a reply."""
        return sum(call.ok for call in self.calls)

    @property
    def failed_calls(self) -> int:
        """Calls that brought none."""
        return len(self.calls) - self.routed_calls

    @property
    def valid_actions(self) -> int:
        """Turns that did what a turn is for: brought a reply, or the answer."""
        return self.routed_calls + self.finished

    @property
    def cost(self) -> float:
        """Of all calls: completion tokens x $ per 1M."""
        return sum(call.result.cost for call in self.calls)

    @property
    def dollars(self) -> float:
        """What prompts and completions of all calls cost together."""
        return sum(call.result.dollars for call in self.calls)

    @property
    def latency_s(self) -> float:
        """Seconds that the policy waited for its calls, one after another, failed ones too."""
        return sum(call.result.latency_s for call in self.calls)

    def numbers(self) -> dict[str, float]:
        """The figures, by the names that files have for them."""
        return {
            "num_turns": len(self.turns),
            "finished": int(self.finished),
            "valid_actions": self.valid_actions,
            "routed_calls": self.routed_calls,
            "failed_calls": self.failed_calls,
            "cost": self.cost,
            "dollars": self.dollars,
            "neutralised": self.neutralised,
        }

    def calls_to_json(self) -> list[dict[str, Any]]:
        """Every call as plain data, with the position of its turn."""
        return [
            {"turn": position, **turn.call.to_json()}
            for position, turn in enumerate(self.turns)
            if turn.call is not None
        ]

    def to_json(self) -> dict[str, Any]:
        """Texts, figures and calls; ``turns`` says which text is whose."""
        return {
            "status": self.status.value,
            "response_text": self.response_text,
            "policy_text": self.policy_text,
            **self.numbers(),
            "opened": self.opened,
            "route_tag": self.tags.route,
            "cost_coe": self.cost_coe,
            "offered": None if self.offered is None else dict(self.offered.owners),
            "turns": [{"text": t.text, "observation": t.observation} for t in self.turns],
            "calls": self.calls_to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RoutedTrajectory:
        """What :meth:`to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: for the data of another agent or version.
        """
        calls = {call["turn"]: Call.from_json(call) for call in content["calls"]}
        turns = tuple(
            Turn(turn["text"], calls.get(position), turn["observation"])
            for position, turn in enumerate(content["turns"])
        )
        status, tags = TrajectoryStatus(content["status"]), Tags(content["route_tag"])
        opened, neutralised = content["opened"], content["neutralised"]
        cost_coe = content.get("cost_coe")  # older records lack these two
        owners = content.get("offered")
        offered = None if owners is None else OfferedNames(tuple(owners.items()))
        return cls(status, turns, opened, neutralised, tags, cost_coe, offered)
