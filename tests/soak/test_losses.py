"""A run that loses an engine in mid-rollout, one that hangs, and a rank in mid-update ends as the
run that was not disturbed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil

from tests.soak.runs import (
    Command,
    assert_same_run,
    engine_of,
    finish,
    launch,
    metrics_of,
    ranks_of,
)

# A rollout in which seconds pass between calls, and updates that take far longer than scoring.
SETTINGS = (
    *("trainer.total_training_steps=6", "trainer.max_ckpt_to_keep=null"),
    *("actor_rollout_ref.actor.ppo_epochs=20", "critic.warmup_steps=0"),
    "actor_rollout_ref.rollout.generation_timeout_s=10",
)
ROLLOUT_S, UPDATE_S = 0.3, 1.5


def in_mid_rollout(command: Command, step: int) -> psutil.Process:
    """The engine's process, a moment after it began to generate for ``step``."""
    command.wait_for(rf"step +{step - 1}/6")
    engine = engine_of(command)
    before = sum(engine.cpu_times()[:2])
    while sum(engine.cpu_times()[:2]) < before + ROLLOUT_S:
        time.sleep(0.02)
    return engine


def in_mid_update(command: Command, step: int) -> psutil.Process:
    """A rank's process, when it has computed for longer in ``step`` than scoring takes."""
    command.wait_for(rf"step +{step - 1}/6")
    rank, _ = ranks_of(command)
    before = sum(rank.cpu_times()[:2])
    while sum(rank.cpu_times()[:2]) < before + UPDATE_S:
        time.sleep(0.02)
    return rank


def test_losses_on_the_way_do_not_show_in_the_end(tmp_path: Path) -> None:
    calls, straight, disturbed = (tmp_path / name for name in ("calls.sqlite", "one", "other"))
    finish(launch(straight, calls, *SETTINGS))
    first = metrics_of(straight)[1]
    assert first["timing_s/log_probs"] < UPDATE_S / 2 < first["timing_s/update"] / 2
    command = launch(disturbed, calls, *SETTINGS)
    in_mid_rollout(command, 2).kill()
    in_mid_rollout(command, 3).send_signal(signal.SIGSTOP)
    in_mid_update(command, 5).kill()
    command.wait_for("goes on after step 4")
    finish(command)
    last = metrics_of(disturbed)[-1]
    assert (last["trainer/restarts"], metrics_of(disturbed)[3]["rollout/engine_restarts"]) == (1, 2)
    assert_same_run(straight, disturbed, 6)
