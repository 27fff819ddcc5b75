"""One answered question as plain data: the object that ``--json`` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from router_r1.llm_agent.trajectory import RoutedTrajectory
from verl.trajectory import SegmentKind, Trajectory


def final_answer(trajectory: Trajectory[RoutedTrajectory]) -> str | None:
    """The answer that is scored; None if the trajectory ended without one."""
    return trajectory.record.answer if trajectory.record.finished else None


@dataclass(frozen=True)
class Answer:
    """A question and what became of it.

    Attributes:
        question: as it was asked.
        answer: None if there is none.
        status: how the trajectory ended (:class:`verl.trajectory.TrajectoryStatus`).
        turns: generations of the policy.
        calls: every call, in order (see :meth:`RoutedTrajectory.calls_to_json`).
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
    def of(cls, question: str, trajectory: Trajectory[RoutedTrajectory]) -> Answer:
        """The record of a finished trajectory."""
        record = trajectory.record
        return cls(
            question=question,
            answer=final_answer(trajectory),
            status=trajectory.status.value,
            turns=len(record.turns),
            calls=record.calls_to_json(),
            cost=record.cost,
            dollars=record.dollars,
            trajectory=record.response_text,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def sampled_tokens(trajectory: Trajectory) -> int:
    """Tokens that the policy itself wrote."""
    return sum(len(s.token_ids) for s in trajectory.segments if s.kind is SegmentKind.ACTION)
