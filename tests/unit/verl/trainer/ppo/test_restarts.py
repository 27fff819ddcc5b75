"""Which losses a run goes on after, and how often."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from verl.config.ppo import TrainerConfig
from verl.config.rollout import RolloutConfig
from verl.config.validation import ConfigError
from verl.errors import UserError
from verl.single_controller.worker_group import WorkerGroupError
from verl.task import Surroundings
from verl.trainer.ppo.progress import Progress
from verl.trainer.ppo.restarts import ProcessLostError, Restarts, noticing_losses
from verl.trainer.ppo.run_state import RunIdentity, TaskState
from verl.utils.checkpoints import RUN_STATE, state_folder, step_folder
from verl.utils.tracking import Tracking
from verl.workers.rollout.errors import EngineDeadError, RolloutEngineError

LOST = ProcessLostError(WorkerGroupError("rank 1 of 2 died in actor.update_actor"))


def checkpoint(folder: Path, step: int, state: bool = True) -> None:
    target = step_folder(folder, step)
    target.mkdir(parents=True)
    (target / RUN_STATE).touch()
    if state:
        state_folder(target, "actor").mkdir(parents=True)


def restarts(folder: Path, limit: int) -> Restarts:
    return Restarts(TrainerConfig(default_local_dir=str(folder), max_restarts=limit))


def test_each_goes_on_from_the_newest_that_can_be_gone_on_from(tmp_path: Path) -> None:
    run = restarts(tmp_path, 2)
    checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 4, state=False)
    run.take(LOST)
    assert run.start is not None
    assert (run.start.step, run.taken) == (2, 1)
    checkpoint(tmp_path, 5)
    run.take(LOST)
    assert (run.start.step, run.taken) == (5, 2)
    with pytest.raises(WorkerGroupError, match="rank 1 of 2 died"):
        run.take(LOST)


def test_without_a_checkpoint_or_when_forbidden_the_loss_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(WorkerGroupError, match="rank 1 of 2 died"):
        restarts(tmp_path, 3).take(LOST)
    checkpoint(tmp_path, 1)
    with pytest.raises(WorkerGroupError, match="rank 1 of 2 died"):
        restarts(tmp_path, 0).take(LOST)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (WorkerGroupError("a rank died"), True),
        (RolloutEngineError("an engine failed while it loaded weights"), True),
        (EngineDeadError("engines were lost too often"), False),
        (UserError("the budget"), False),
    ],
)
def test_only_the_loss_of_a_process_is_worth_a_restart(error: UserError, lost: bool) -> None:
    expected = ProcessLostError if lost else type(error)
    with pytest.raises(expected) as caught, noticing_losses():  # type: ignore[arg-type]
        raise error
    assert (caught.value.reason if isinstance(caught.value, ProcessLostError) else error) is error


class Spending(Surroundings):
    """Calls cost money."""

    def __init__(self) -> None:
        self.spent = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent}

    def load_state_dict(self, state: dict[str, Any], newest: dict[str, Any]) -> None:
        del state
        self.spent = newest["spent"]


def test_what_a_lost_step_has_used_up_stays_used_up(tmp_path: Path) -> None:
    config, spending = TrainerConfig(default_local_dir=str(tmp_path)), Spending()
    tracking = Tracking([], tmp_path, "project", "experiment", {})
    reward: Any = SimpleNamespace(state_dict=dict)
    progress = Progress(config, RunIdentity({}, 9, 1), {}, {}, spending, reward, tracking)
    spending.spent = 2.5
    progress.close()
    again = Spending()
    TaskState(again, tmp_path).load_state_dict({"spent": 0.0})
    assert again.spent == 2.5


def test_limits_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"trainer.max_restarts must be >= 0, got -1"):
        TrainerConfig(max_restarts=-1)
    with pytest.raises(ConfigError, match=r"rollout.max_restarts must be >= 0, got -1"):
        RolloutConfig(max_restarts=-1)
    with pytest.raises(ConfigError, match=r"rollout.generation_timeout_s must be > 0, got 0"):
        RolloutConfig(generation_timeout_s=0)
    assert RolloutConfig(generation_timeout_s=None, max_restarts=0).max_restarts == 0
