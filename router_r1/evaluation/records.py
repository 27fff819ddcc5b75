"""Evaluated trajectories of a router, as the files of an evaluation or a run hold them."""

from __future__ import annotations

from pathlib import Path

from router_r1.llm_agent.trajectory import RoutedTrajectory
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.ppo.rollout_log import read_trajectories

RoutedRecord = EvaluationRecord[RoutedTrajectory]


def read_routed(path: Path) -> list[RoutedRecord]:
    """The trajectories of a step of a run.

    Raises:
        RecordError: if the file was written by another version, or by a run of another task.
    """
    return read_trajectories(path, RoutedTrajectory)
