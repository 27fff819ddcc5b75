"""One answered question as plain data: the object that ``--json`` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from router_r1.reward.format import extract_answer
from verl.trajectory import SegmentKind, Trajectory


def final_answer(trajectory: Trajectory) -> str | None:
    """The answer that is scored; None if the trajectory ended without one."""
    if not trajectory.extras["finished"]:
        return None
    return extract_answer(trajectory.extras["policy_text"])


@dataclass(frozen=True)
class Answer:
    """A question and what became of it.

    Attributes:
        question: as it was asked.
        answer: None if there is none.
        status: how the trajectory ended (:class:`verl.trajectory.TrajectoryStatus`).
        turns: generations of the policy.
        calls: every call, in order (the fields of ``LLMGenerationManager``'s records).
        cost: of all calls, completion tokens x $ per 1M.
        dollars: of all calls.
        trajectory: what the policy wrote and read after the prompt.
    """

    question: str
    answer: str | None
    status: str
    turns: int
    calls: list[dict[str, Any]]
    cost: float
    dollars: float
    trajectory: str

    @classmethod
    def of(cls, question: str, trajectory: Trajectory) -> Answer:
        """The record of a finished trajectory."""
        extras = trajectory.extras
        return cls(
            question=question,
            answer=final_answer(trajectory),
            status=trajectory.status.value,
            turns=extras["num_turns"],
            calls=extras["calls"],
            cost=extras["cost"],
            dollars=extras["dollars"],
            trajectory=extras["response_text"],
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def sampled_tokens(trajectory: Trajectory) -> int:
    """Tokens that the policy itself wrote."""
    return sum(len(s.token_ids) for s in trajectory.segments if s.kind is SegmentKind.ACTION)
