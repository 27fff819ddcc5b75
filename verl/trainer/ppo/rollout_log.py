"""Trajectories of a training run as files: who wants to see what the policy does reads these.

Guarantees: a file is there whole or not at all; :func:`read_trajectories` gives back every line of
what :func:`write_trajectories` wrote. ``samples/step_N.jsonl`` holds at most ``per_step`` of those
that training samples, and the folder at most ``keep_steps`` files, those of the newest steps; a
disk that takes none does not end the run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from verl.config.ppo import SamplesConfig
from verl.interfaces import RolloutRequest
from verl.trainer.evaluation.records import (
    EvaluationRecord,
    RecordError,
    file_names,
    record_from,
    record_of,
)
from verl.trainer.run_folder import SAMPLES_FOLDER, trajectories_file, trajectories_files
from verl.trajectory import RecordT, Trajectory, numbers_of
from verl.utils.files import written_whole
from verl.utils.tracking import tolerating

if TYPE_CHECKING:  # brings torch, which readers of the files do without
    from verl.trainer.ppo.scored_rollout import ScoredRollout


def write_trajectories(
    path: Path,
    requests: Sequence[RolloutRequest],
    trajectories: Sequence[Trajectory],
    columns: dict[str, np.ndarray],
) -> None:
    """One flat JSON object a line: the prompt, its accepted answers and its data source; uid,
    sample, status and whether it was excluded; the reward's numbers; what the agent reports.

    Requests and trajectories are in the same order. ``columns``, each (N,) float64, are the reward
    function's metrics and ``reward``. The file's folder is made.
    """
    with (
        written_whole(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="replace") as file,
    ):
        for i, (request, trajectory) in enumerate(zip(requests, trajectories, strict=True)):
            record = record_of(trajectory, request)
            line = {
                **record.identity(),
                "excluded": trajectory.excluded,
                **{name: float(values[i]) for name, values in columns.items()},
                **record.agent_to_json(),
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_trajectories(path: Path, record_class: type[RecordT]) -> list[EvaluationRecord[RecordT]]:
    """The lines of a file as records; every number of a line is among its scores.

    Args:
        record_class: of the agent; :class:`~verl.trajectory.AgentRecord` itself reads nothing of
            what it told.

    Raises:
        RecordError: naming the line that cannot be used: of another agent or another version.
    """
    records = []
    lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other line ends
    for number, line in enumerate(filter(None, lines), start=1):
        try:
            records.append(_record(json.loads(line), record_class))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(
                f"{path} line {number} is no trajectory that this version of the agent writes: "
                f"{error!r}"
            ) from error
    return records


def _record(line: dict[str, Any], record_class: type[RecordT]) -> EvaluationRecord[RecordT]:
    identity = file_names(record_class).values()
    scores = {k: float(v) for k, v in numbers_of(line).items() if k not in identity}
    return record_from(line, line, scores, record_class)


class SampleLog:
    """Writes into ``samples`` of the run's folder."""

    def __init__(self, folder: Path, config: SamplesConfig) -> None:
        self._folder = folder / SAMPLES_FOLDER
        self._config = config
        # Of the process before, where the run goes on.
        self._written = list(trajectories_files(self._folder).values())

    def write(self, step: int, rollout: ScoredRollout) -> None:
        """Keeps some of a step's trajectories, spread evenly over the batch."""
        if not self._config.per_step:
            return
        kept = rollout.only([spread(len(rollout.trajectories), self._config.per_step)])
        columns = {**kept.reward.metrics, "reward": kept.reward.scores}
        with tolerating(f"the samples of step {step} were not written"):
            path = trajectories_file(self._folder, step)
            write_trajectories(path, kept.requests, kept.trajectories, columns)
            self._written.append(path)
            while len(self._written) > self._config.keep_steps:
                self._written.pop(0).unlink(missing_ok=True)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the positions below ``count``, evenly spaced and ascending: with several
    samples a prompt, neighbours are of one prompt."""
    return np.unique(np.arange(most) * count // most).tolist() if count > most else [*range(count)]
