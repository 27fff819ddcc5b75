"""How far a run is, as its checkpoints say it.

Guarantees: what is saved is the last whole step, whatever the present one has done to the driver's
parts; once an update of the present step has begun, the workers no longer hold the last one, and
nothing is saved.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from verl.config.ppo import TrainerConfig
from verl.interfaces import RewardFunction, Stateful
from verl.task import Surroundings, ValidationResult
from verl.trainer.ppo.checkpointing import CheckpointError, CheckpointSaver
from verl.trainer.ppo.run_state import RunIdentity, RunState, TaskState
from verl.utils.checkpoints import Checkpoint, load_reward_state
from verl.utils.tracking import Tracking, tolerating

logger = logging.getLogger(__name__)


class Progress:
    """Of one run.

    Args:
        roles: worker handles of what is trained, by name.
        parts: of the driver, each with a state; the task's is added. One that the run did not have
            when ``start`` was saved begins anew.
        start: the checkpoint that the run goes on from; workers, parts and reward take it over.

    Attributes:
        state: after the last whole step.
        saver: of the run's checkpoints.
    """

    def __init__(
        self,
        config: TrainerConfig,
        identity: RunIdentity,
        roles: Mapping[str, Any],
        parts: Mapping[str, Stateful],
        surroundings: Surroundings,
        reward: RewardFunction,
        tracking: Tracking,
        start: Checkpoint | None = None,
    ) -> None:
        output_dir = Path(config.default_local_dir)
        self._task_state = TaskState(surroundings, output_dir)
        self._parts: dict[str, Stateful] = {**parts, "task": self._task_state}
        self._reward = reward
        self._tracking = tracking
        self._metrics_step = 0
        self._metrics: dict[str, float] = {}
        self._whole = True
        self.state = RunState(0, identity, {})
        saved = None
        if start is not None:
            self.state = replace(RunState.from_json(start.read_run_state()), identity=identity)
            self._metrics_step, self._metrics = self.step, self.state.metrics
            for name, role in roles.items():
                role.load_state(str(start.state(name)))
            for name, part in self._parts.items():
                if name in self.state.parts:
                    part.load_state_dict(self.state.parts[name])
            load_reward_state(start.folder / "actor", reward)
            saved = self.state if start.belongs_to(output_dir) else None
            logger.info("goes on after step %d, from %s", start.step, start.folder)
        self.saver = CheckpointSaver(config, roles, saved)
        self._seconds_before = self.state.seconds
        self._started = time.monotonic()
        self.record(self.step)

    @property
    def step(self) -> int:
        """Whole steps done."""
        return self.state.step

    @property
    def seconds(self) -> float:
        """Wall seconds of training, those of earlier processes included."""
        return self._seconds_before + time.monotonic() - self._started

    def begin_update(self) -> None:
        """The workers are about to leave the last whole step."""
        self._whole = False

    def note(self, step: int, metrics: dict[str, float]) -> None:
        """Gives metrics to the trackers, and to the checkpoint of their step."""
        self._tracking.log(metrics, step)
        earlier = self._metrics if step == self._metrics_step else {}
        self._metrics_step, self._metrics = step, {**earlier, **metrics}

    def record(self, step: int, validation: ValidationResult | None = None) -> None:
        """A step is whole, or has been validated: takes down the state of every part."""
        first, last = self.state.first, self.state.last
        self._reward_state = self._reward.state_dict()
        self.state = replace(
            self.state,
            step=step,
            parts={name: part.state_dict() for name, part in self._parts.items()},
            metrics=self._metrics,
            seconds=self.seconds,
            trackers=self._tracking.run_ids,
            first=validation if step == 0 and validation is not None else first,
            last=validation if validation is not None else last,
        )
        self._whole = True

    def save(self) -> None:
        """Begins a checkpoint of the last whole step; see :class:`CheckpointSaver`."""
        self.saver.save(self.state, self._reward_state)

    def save_and_wait(self) -> None:
        """The same, written when it returns."""
        self.save()
        self.saver.wait()

    def close(self) -> None:
        """The workers are gone: what the step under way has used up stays used up, and no save
        goes on; see :meth:`CheckpointSaver.close`."""
        self._task_state.state_dict()  # writes its file
        self.saver.close()

    def save_what_is_left(self, error: Exception) -> None:
        """An error ends the run: saves what it had reached, if the workers still hold it."""
        if self._whole and self.step and not isinstance(error, CheckpointError):
            with tolerating(f"step {self.step} was not saved"):
                self.save_and_wait()
