"""What the driver of a run goes on from: ``run.json`` of a checkpoint.

Guarantees: it is JSON; each part's state is that part's own business, as of the end of one whole
step, whatever the next step has already done to the part.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from verl.algorithms.kl import AdaptiveKLController, FixedKLController
from verl.config.ppo import PPOConfig
from verl.task import Surroundings, ValidationResult
from verl.trainer.run_folder import TASK_STATE_FILE
from verl.utils.files import write_text
from verl.utils.redaction import redact
from verl.utils.seeding import random_state, restore_random_state
from verl.utils.tracking import tolerating


@dataclass(frozen=True)
class RunIdentity:
    """Which run it is.

    Attributes:
        config: the whole configuration, redacted.
        total_steps: that the run was to take.
        train_rows: rows of its training data.
    """

    config: dict[str, Any]
    total_steps: int
    train_rows: int

    @classmethod
    def of(cls, config: PPOConfig, train_rows: int) -> RunIdentity:
        """Of a run on so many rows."""
        trainer = config.trainer
        steps_per_epoch = train_rows // config.data.train_batch_size
        steps = trainer.total_training_steps or trainer.total_epochs * steps_per_epoch
        return cls(redact(asdict(config)), steps, train_rows)


@dataclass
class RunState:
    """The driver's state after ``step`` steps.

    Attributes:
        parts: states by the name of the part.
        metrics: of the step, its validation included.
        seconds: wall seconds of training so far.
        trackers: ids under which trackers know the run.
        first, last: validations so far.
    """

    step: int
    identity: RunIdentity
    parts: dict[str, dict[str, Any]]
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    trackers: dict[str, str] = field(default_factory=dict)
    first: ValidationResult | None = None
    last: ValidationResult | None = None

    @property
    def moment(self) -> tuple[int, int | None]:
        """Steps done, and at which step the newest validation was."""
        return self.step, None if self.last is None else self.last.step

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end, its last validation included."""
        return self.step >= self.identity.total_steps and self.moment == (self.step, self.step)

    def to_text(self) -> str:
        """As a file's content."""
        return json.dumps(asdict(self), default=np.ndarray.tolist) + "\n"

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RunState:
        """Of a file's content."""
        read = {
            "identity": RunIdentity(**content["identity"]),
            "first": _validation(content["first"]),
            "last": _validation(content["last"]),
        }
        return cls(**content | read)


def _validation(content: dict[str, Any] | None) -> ValidationResult | None:
    if content is None:
        return None
    columns = {name: np.array(values, np.float64) for name, values in content["columns"].items()}
    sources = np.array(content["data_sources"], dtype=object)
    return ValidationResult(content["step"], sources, columns)


# -- parts without a class of their own ------------------------------------------------------------


class DriverStreams:
    """The driver's streams of random numbers: the process's, and ``rng``, which orders the
    mini-batches."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def state_dict(self) -> dict[str, Any]:
        """Where they stand."""
        return {"process": random_state(), "order": dict(self._rng.bit_generator.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts them there."""
        restore_random_state(state["process"])
        self._rng.bit_generator.state = state["order"]


class KLCoefficient:
    """The adaptive controller's coefficient; a fixed one is the configuration's business."""

    def __init__(self, controller: AdaptiveKLController | FixedKLController) -> None:
        self._controller = controller

    def state_dict(self) -> dict[str, Any]:
        """Its value."""
        return {"value": self._controller.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the value over."""
        if isinstance(self._controller, AdaptiveKLController):
            self._controller.value = state["value"]


class TaskState:
    """What the task has used up; its newest state is in a file as well, since it stays used up when
    steps are taken again."""

    def __init__(self, surroundings: Surroundings, folder: Path) -> None:
        self._surroundings = surroundings
        self._file = folder / TASK_STATE_FILE

    def state_dict(self) -> dict[str, Any]:
        """Of this moment, which the file then holds."""
        state = self._surroundings.state_dict()
        if state:
            with tolerating(f"{self._file.name} was not written"):
                write_text(self._file, json.dumps(state) + "\n")
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of the checkpoint; the file says what was used up since."""
        newest = state
        if self._file.is_file():
            newest = json.loads(self._file.read_text(encoding="utf-8"))
        self._surroundings.load_state_dict(state, newest)
