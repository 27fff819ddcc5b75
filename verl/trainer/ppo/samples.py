"""Keeps a few of the trajectories that training samples, so that one can watch it learn.

Guarantees: ``samples/step_N.jsonl`` holds at most ``per_step`` trajectories and the folder at most
``keep_steps`` files, those of the newest steps; a disk that takes none does not end the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from verl.config.ppo import SamplesConfig
from verl.interfaces import RewardOutput, RolloutRequest
from verl.trainer.ppo.rollout_log import write_trajectories
from verl.trainer.run_files import SAMPLES_FOLDER, trajectories_file, trajectories_files
from verl.trajectory import Trajectory
from verl.utils.tracking import tolerating


class SampleLog:
    """Writes into ``samples`` of the run's folder."""

    def __init__(self, folder: Path, config: SamplesConfig) -> None:
        self._folder = folder / SAMPLES_FOLDER
        self._config = config
        # Of the process before, where the run goes on.
        self._written = list(trajectories_files(self._folder).values())

    def write(
        self,
        step: int,
        requests: Sequence[RolloutRequest],
        trajectories: Sequence[Trajectory],
        reward: RewardOutput,
    ) -> None:
        """Keeps some of a step's trajectories, spread evenly over the batch; all are given in the
        same order."""
        if not self._config.per_step:
            return
        chosen = spread(len(trajectories), self._config.per_step)
        columns = {**reward.metrics, "reward": reward.scores}
        with tolerating(f"the samples of step {step} were not written"):
            path = trajectories_file(self._folder, step)
            write_trajectories(
                path,
                [requests[i] for i in chosen],
                [trajectories[i] for i in chosen],
                {name: values[chosen] for name, values in columns.items()},
            )
            self._written.append(path)
            while len(self._written) > self._config.keep_steps:
                self._written.pop(0).unlink(missing_ok=True)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the positions below ``count``, evenly spaced and ascending: with several
    samples a prompt, neighbours are of one prompt."""
    return np.unique(np.arange(most) * count // most).tolist() if count > most else [*range(count)]
