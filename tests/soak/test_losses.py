"""A run that loses an engine in mid-rollout, one that hangs, and a rank in mid-update ends as the
run that was not disturbed."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.integration.commands import metrics_of
from tests.soak.runs import (
    Command,
    assert_same_run,
    cpu_seconds,
    engine_of,
    finish,
    launch,
    ranks_of,
    wait_until,
    wait_until_saved,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]
# Twenty epochs make an update far longer than the passes before it; an engine that ends no
# generation for ten seconds counts as one that hangs.
SETTINGS = (
    *("trainer.total_training_steps=6", "trainer.max_ckpt_to_keep=null"),
    *("actor_rollout_ref.actor.ppo_epochs=20", "critic.warmup_steps=0"),
    "actor_rollout_ref.rollout.generation_timeout_s=10",
)
ROLLOUT_S, UPDATE_S = 0.3, 1.5


def in_mid_rollout(command: Command, folder: Path, step: int) -> psutil.Process:
    """The engine's process, a moment after it began to generate for ``step``."""
    command.wait_for(rf"step +{step - 1}/6")
    wait_until_saved(command, folder, step - 1)
    engine = engine_of(command)
    end = cpu_seconds(engine) + ROLLOUT_S
    wait_until(command, lambda: cpu_seconds(engine) > end)
    return engine


def in_mid_update(command: Command, folder: Path, step: int) -> psutil.Process:
    """A rank's process, when it has computed for longer in ``step`` than before the update."""
    command.wait_for(rf"step +{step - 1}/6")
    wait_until_saved(command, folder, step - 1)
    rank, _ = ranks_of(command)
    end = cpu_seconds(rank) + UPDATE_S
    wait_until(command, lambda: cpu_seconds(rank) > end)
    return rank


def test_losses_on_the_way_do_not_show_in_the_end(tmp_path: Path) -> None:
    calls, straight, disturbed = (tmp_path / name for name in ("calls.sqlite", "one", "other"))
    finish(launch(straight, calls, *SETTINGS))
    second = metrics_of(straight)[1]
    assert second["timing_s/log_probs"] < UPDATE_S / 2 < second["timing_s/update"] / 2
    command = launch(disturbed, calls, *SETTINGS)
    in_mid_rollout(command, disturbed, 2).kill()
    in_mid_rollout(command, disturbed, 3).send_signal(signal.SIGSTOP)
    in_mid_update(command, disturbed, 5).kill()
    command.wait_for("goes on after step 4")
    finish(command)
    steps = [line for line in metrics_of(disturbed) if "trainer/restarts" in line]
    assert [line["rollout/engine_restarts"] for line in steps] == [0, 1, 2, 2, 0, 0]
    assert [line["trainer/restarts"] for line in steps] == [0, 0, 0, 0, 1, 1]
    assert_same_run(straight, disturbed, 6)
