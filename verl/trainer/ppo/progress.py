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
from verl.interfaces import RewardFunction
from verl.task import Surroundings, ValidationResult
from verl.trainer.ppo.checkpointing import CheckpointError, CheckpointSaver
from verl.trainer.ppo.run_state import (
    RunIdentity,
    RunState,
    Stateful,
    TaskState,
    load_states,
    states_of,
)
from verl.utils.checkpoints import Checkpoint, load_reward_state
from verl.utils.tracking import Tracking, tolerating

logger = logging.getLogger(__name__)


class Progress:
    """Of one run.

    Args:
        config: of the run.
        identity: of the run.
        roles: worker handles of what is trained, by name.
        parts: of the driver, each with a state; the task's is added.
        surroundings: of the task.
        reward: its function.
        tracking: where metrics go.
        start: the checkpoint that the run goes on from; workers, parts and reward take it over.
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
        self._state = RunState(0, identity, {})
        saved = None
        if start is not None:
            self._state = replace(RunState.from_json(start.read_run_state()), identity=identity)
            self._metrics_step, self._metrics = self._state.step, self._state.metrics
            for name, role in roles.items():
                role.load_state(str(start.state(name)))
            load_states(self._parts, self._state.parts)
            load_reward_state(start.folder / "actor", reward)
            saved = self._state if start.belongs_to(output_dir) else None
            logger.info("goes on after step %d, from %s", start.step, start.folder)
        self._saver = CheckpointSaver(config, roles, saved)
        self._seconds_before = self._state.seconds
        self._started = time.monotonic()
        self.record(self._state.step)

    @property
    def step(self) -> int:
        """Whole steps done."""
        return self._state.step

    @property
    def first_validation(self) -> ValidationResult | None:
        """Before the first step."""
        return self._state.first

    @property
    def last_validation(self) -> ValidationResult | None:
        """The newest."""
        return self._state.last

    @property
    def seconds(self) -> float:
        """Wall seconds of training, those of earlier processes included."""
        return self._seconds_before + time.monotonic() - self._started

    def begin_training(self) -> None:
        """Seconds count from here."""
        self._started = time.monotonic()

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
        first, last = self._state.first, self._state.last
        self._reward_state = self._reward.state_dict()
        self._state = replace(
            self._state,
            step=step,
            parts=states_of(self._parts),
            metrics=self._metrics,
            seconds=self.seconds,
            trackers=self._tracking.run_ids,
            first=validation if step == 0 and validation is not None else first,
            last=validation if validation is not None else last,
        )
        self._whole = True

    def save(self) -> None:
        """Begins a checkpoint of the last whole step; see :class:`CheckpointSaver`."""
        self._saver.save(self._state, self._reward_state)

    def check(self) -> None:
        """Raises :class:`CheckpointError` if the save under way has failed."""
        self._saver.check()

    def save_and_wait(self) -> None:
        """The same, written when it returns."""
        self.save()
        self._saver.wait()

    def finish(self) -> None:
        """The run has ended: waits for its last checkpoint."""
        self._saver.finish()

    def close(self) -> None:
        """The workers are gone: what the step under way has used up stays used up, and no save
        goes on; see :meth:`CheckpointSaver.close`."""
        self._task_state.write()
        self._saver.close()

    def save_what_is_left(self, error: Exception) -> None:
        """An error ends the run: saves what it had reached, if the workers still hold it."""
        if self._whole and self.step and not isinstance(error, CheckpointError):
            with tolerating(f"step {self.step} was not saved"):
                self.save_and_wait()
