"""One answered question as plain data: the object that ``--json`` prints."""

from __future__ import annotations

from typing import Any

from router_r1.llm_agent.trajectory import RoutedTrajectory
from verl.trajectory import Trajectory


def final_answer(trajectory: Trajectory[RoutedTrajectory]) -> str | None:
    """The answer that is scored; None if the trajectory ended without one."""
    return trajectory.record.answer if trajectory.record.finished else None


def answer_record(question: str, trajectory: Trajectory[RoutedTrajectory]) -> dict[str, Any]:
    """A question and what became of it.

    ``status`` is a :class:`verl.trajectory.TrajectoryStatus`; ``turns`` counts generations of the
    policy; ``cost`` is of all calls, completion tokens x $ per 1M; ``trajectory`` is what the
    policy wrote and read after the prompt.
    """
    record = trajectory.record
    return {
        "question": question,
        "answer": final_answer(trajectory),
        "status": trajectory.status.value,
        "turns": len(record.turns),
        "calls": record.calls_to_json(),
        "cost": record.cost,
        "dollars": record.dollars,
        "trajectory": record.response_text,
    }
