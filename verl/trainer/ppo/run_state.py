"""What the driver of a run goes on from: ``run.json`` of a checkpoint.

Guarantees: it is JSON; each part's state is that part's own business, as of the end of one whole
step, whatever the next step has already done to the part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from verl.algorithms.kl import AdaptiveKLController, FixedKLController
from verl.config.ppo import PPOConfig
from verl.task import Surroundings, ValidationResult
from verl.trainer.run_folder import TASK_STATE_FILE
from verl.utils.files import write_text
from verl.utils.redaction import redact
from verl.utils.seeding import random_state, restore_random_state
from verl.utils.tracking import tolerating


class Stateful(Protocol):
    """A part of a run with a state; what it returns is left alone by later steps."""

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        ...


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
        step: steps done.
        identity: of the run.
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
        content = {
            "step": self.step,
            "identity": asdict(self.identity),
            "metrics": self.metrics,
            "seconds": self.seconds,
            "trackers": self.trackers,
            "first": _result_to_json(self.first),
            "last": _result_to_json(self.last),
            "parts": self.parts,
        }
        return json.dumps(content) + "\n"

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RunState:
        """Of a file's content."""
        return cls(
            step=content["step"],
            identity=RunIdentity(**content["identity"]),
            parts=content["parts"],
            metrics=content["metrics"],
            seconds=content["seconds"],
            trackers=content["trackers"],
            first=_result_from_json(content["first"]),
            last=_result_from_json(content["last"]),
        )


def _result_to_json(result: ValidationResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    columns = {name: values.tolist() for name, values in result.columns.items()}
    sources = [str(source) for source in result.data_sources]
    return {"step": result.step, "data_sources": sources, "columns": columns}


def _result_from_json(content: dict[str, Any] | None) -> ValidationResult | None:
    if content is None:
        return None
    columns = {name: np.array(values, np.float64) for name, values in content["columns"].items()}
    sources = np.array(content["data_sources"], dtype=object)
    return ValidationResult(content["step"], sources, columns)


# -- parts without a class of their own ------------------------------------------------------------


class DriverStreams:
    """The driver's streams of random numbers: the process's, and that of the mini-batches' order.

    Args:
        rng: of the order.
    """

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
    """The adaptive controller's coefficient; a fixed one is the configuration's business.

    Args:
        controller: of the KL in the reward.
    """

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
    steps are taken again.

    Args:
        surroundings: of the task.
        folder: of the run.
    """

    def __init__(self, surroundings: Surroundings, folder: Path) -> None:
        self._surroundings = surroundings
        self._file = folder / TASK_STATE_FILE

    def write(self) -> dict[str, Any]:
        """Into the file, as it is at this moment; returns it."""
        state = self._surroundings.state_dict()
        if state:
            with tolerating(f"{self._file.name} was not written"):
                write_text(self._file, json.dumps(state) + "\n")
        return state

    def state_dict(self) -> dict[str, Any]:
        """Of this moment, which the file then holds."""
        return self.write()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of the checkpoint; the file says what was used up since."""
        newest = state
        if self._file.is_file():
            newest = json.loads(self._file.read_text(encoding="utf-8"))
        self._surroundings.load_state_dict(state, newest)


def states_of(parts: Mapping[str, Stateful]) -> dict[str, dict[str, Any]]:
    """The state of each part, by name."""
    return {name: part.state_dict() for name, part in parts.items()}


def load_states(parts: Mapping[str, Stateful], states: Mapping[str, dict[str, Any]]) -> None:
    """Gives each part its state back; a part that the run did not have begins anew."""
    for name, part in parts.items():
        if name in states:
            part.load_state_dict(states[name])
