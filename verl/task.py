"""The seam between the framework and what it trains.

A task brings the agent (a :class:`~verl.interfaces.RolloutSource`) and the reward. What they need
around them is the task's :class:`Surroundings`, what is told of a run its :class:`Reports`; both
have defaults that need and tell nothing. The entry point imports a task by ``task._target_``; the
trainer sees only these classes.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from verl.columns import METRIC, REWARD, Column
from verl.config.alarms import AlarmRule
from verl.config.ppo import PPOConfig
from verl.forecast import PlannedRun, RunningTotal, Work
from verl.interfaces import GenerationEngine, RewardFunction, RolloutSource
from verl.trajectory import AgentRecord
from verl.utils.checklist import CheckLine
from verl.utils.rows import Messages, Row, chat_messages

if TYPE_CHECKING:
    from verl.utils.plots import Chart

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ValidationResult:
    """One validation: per-sample columns, in the order of the validation files.

    Attributes:
        step: training steps done before it.
        data_sources: (N,) the row's ``data_source``.
        columns: each (N,) float64: the reward function's metrics and ``reward``.
    """

    step: int
    data_sources: np.ndarray
    columns: dict[str, np.ndarray]

    def mean(self, column: str) -> float:
        """Mean over all samples."""
        return float(self.columns[column].mean())


@dataclass(frozen=True)
class TrainingReport:
    """What a finished run hands to the task.

    Attributes:
        output_dir: folder of the run.
        first_validation: before training, None if it was switched off.
        last_validation: after the last step; None if the task stopped the run before one.
        seconds: wall seconds by phase.
    """

    output_dir: Path
    first_validation: ValidationResult | None
    last_validation: ValidationResult | None
    seconds: dict[str, float] = field(default_factory=dict)


class Surroundings:
    """What rollouts need around them. This base class needs nothing."""

    def check(self) -> None:
        """Refuses what cannot work and writes missing data files; quick, starts no process."""
        self.write_missing_data()

    def write_missing_data(self) -> None:
        """Writes data files that the task itself can make."""

    def check_lines(self, run: PlannedRun) -> list[CheckLine]:
        """What ``--check`` says of the surroundings and of what the run may cost."""
        return self.forecast_lines(run)

    def forecast_lines(self, run: PlannedRun) -> list[CheckLine]:  # noqa: ARG002
        """What the run may use up (calls, money), shown before it begins; asks nobody."""
        return []

    def expected_work(self, trajectories: int) -> Work | None:  # noqa: ARG002
        """What so many trajectories are likely to do, from which ``--check`` computes the run's
        hours on GPUs; None where that is not known."""
        return None

    def first_policy_config(self) -> Any | None:
        """Hugging Face config of the policy that :meth:`make_first_policy` makes; None for none."""
        return None

    def make_first_policy(self) -> None:
        """Makes the policy that training starts from, if it is not there already."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Starts the services that rollouts need and stops them afterwards."""
        yield

    def stop_reason(self) -> str | None:
        """Why no further rollout makes sense; None while one does.

        Asked after each rollout; in an evaluation also now and then within, on whatever thread
        the rollout source reports its trajectories.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on must know of the one before, such as what it has used up; JSON
        values, which later calls leave alone."""
        return {}

    def load_state_dict(self, state: dict[str, Any], newest: dict[str, Any]) -> None:
        """Takes over the state of the process before: as of the checkpoint, and the ``newest`` that
        it wrote, since what it used up after the checkpoint stays used up, though the steps are
        taken again."""

    def describe_failures(self) -> str:
        """What has failed so far that is not the policy's doing, in a few words; may be empty."""
        return ""


class Reports:
    """What is told of a run beside the framework's own metrics. This base class tells nothing."""

    def metrics(self) -> dict[str, float]:
        """Reported beside each step's and each validation's metrics."""
        return {}

    def running_totals(self) -> tuple[RunningTotal, ...]:
        """Those of :meth:`metrics` that add up over the run, for the progress line."""
        return ()

    def charts(self) -> Sequence[Chart]:
        """What ``curves.png`` shows of the run."""
        from verl.utils.plots import TRAINING_CHARTS  # draws, which costs time to import

        return TRAINING_CHARTS

    def alarm_rules(self) -> tuple[AlarmRule, ...]:
        """Normal ranges of the task's own metrics; training warns when one is left."""
        return ()

    def facts(self) -> dict[str, Any]:
        """What the results of an evaluation should say of the task's settings."""
        return {}

    def evaluation(self, folder: Path) -> None:
        """Called once an evaluation is scored: the place for tables and pages."""
        logger.info("scored; results in %s", folder)

    def training(self, report: TrainingReport) -> None:
        """Called once after training, e.g. to write and show an end table."""
        logger.info("trained; results in %s", report.output_dir)


class Task(ABC):
    """Base class of tasks.

    Attributes:
        config_class: the root config that its YAML is checked against.
        record_class: what its agent tells of a trajectory.
        columns: what is reported of a trajectory's reward, in the order of a line.
        agent_metrics: a step's metrics that are means of numbers which the agent tells, by their
            names in :meth:`~verl.trajectory.AgentRecord.numbers`.
        free_config_keys: of the task's configuration, what may differ when a run goes on from a
            checkpoint; a key stands for all below it.
    """

    config_class: ClassVar[type[PPOConfig]] = PPOConfig
    record_class: ClassVar[type[AgentRecord]] = AgentRecord
    columns: ClassVar[tuple[Column, ...]] = (METRIC, REWARD)
    agent_metrics: ClassVar[Mapping[str, str]] = {}
    free_config_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def agent(self, engine: GenerationEngine, tokenizer: Any) -> RolloutSource:
        """What turns prompts into trajectories."""

    @abstractmethod
    def reward(self) -> RewardFunction:
        """The reward of a batch of trajectories."""

    def messages(self, row: Row) -> Messages:
        """The chat messages that a data row puts to the policy.

        Raises:
            RowError: if the row does not hold them.
        """
        return chat_messages(row, self.config.data.prompt_key)

    def check_row(self, row: Row) -> None:
        """Raises :class:`~verl.utils.rows.RowError` for a data row that the task cannot use.

        The framework has checked ``data_source``, the messages and ``ground_truth`` before.
        """
        del row

    def surroundings(self) -> Surroundings:
        """What the agent needs around it; where that has a state, one object for all calls."""
        return Surroundings()

    def reports(self) -> Reports:
        """What is told of the run."""
        return Reports()
