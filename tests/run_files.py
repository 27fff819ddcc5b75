"""Files of a training run, made without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from verl.interfaces import RolloutRequest
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.ppo.rollout_log import write_trajectories
from verl.trainer.run_folder import trajectories_file
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus


def write_samples(run_folder: Path, step: int, records: Sequence[EvaluationRecord]) -> None:
    """``samples/step_N.jsonl`` of scored records."""
    _write(trajectories_file(run_folder / "samples", step), records)


def write_validation(run_folder: Path, step: int, records: Sequence[EvaluationRecord]) -> None:
    """``validation/step_N.jsonl`` of scored records."""
    _write(trajectories_file(run_folder / "validation", step), records)


def _write(path: Path, records: Sequence[EvaluationRecord]) -> None:
    """As the trainer does: trajectories, the rows they came from, and columns of the reward."""
    requests, trajectories = [], []
    for record in records:
        row = {
            "data_source": record.data_source,
            "reward_model": {"ground_truth": {"target": record.ground_truth}},
            "extra_info": {"question": record.prompt, "domains": record.domains},
        }
        messages = [{"role": "user", "content": record.prompt}]
        requests.append(RolloutRequest(record.uid, messages, record.sample_index, row))
        prompt = [Segment(SegmentKind.PROMPT, (1,))]
        status = TrajectoryStatus(record.status)
        trajectories.append(
            Trajectory(record.uid, prompt, status, record.trajectory, record.sample_index)
        )
    columns = {
        name: np.array([record.scores[name] for record in records]) for name in records[0].scores
    }
    write_trajectories(path, requests, trajectories, columns)
