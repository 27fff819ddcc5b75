"""Twenty SIGKILLs at random moments of a run on two ranks that saves each step."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.soak.runs import (
    assert_all_ended,
    assert_same_run,
    finish,
    kill,
    launch,
    ranks_of,
    wait_until_saved,
)
from verl.utils.checkpoints import list_checkpoints

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]
KILLS, STEPS, SEED = 20, 70, 16
# Of a run: every step, Hugging Face files included, and two checkpoints are kept.
SETTINGS = (
    *(f"trainer.total_training_steps={STEPS}", "trainer.max_ckpt_to_keep=2"),
    "trainer.save_hf=always",
)


def test_twenty_kills_lose_nothing_older_than_the_last_save(tmp_path: Path) -> None:
    """Six while the run starts, fourteen within four seconds of a save; of these, seven kill a rank
    as well, just before the driver."""
    rng = random.Random(SEED)
    calls, straight, killed = tmp_path / "calls.sqlite", tmp_path / "straight", tmp_path / "killed"
    finish(launch(straight, calls, *SETTINGS))
    saved, commands = 0, []
    for number in range(KILLS):
        command = launch(killed, calls, *SETTINGS)
        if number % 3 == 2:
            command.wait_for("calls of this run")
            time.sleep(rng.uniform(0.0, 15.0))
        else:
            wait_until_saved(command, killed, saved + 1)
            time.sleep(rng.uniform(0.0, 4.0))
        assert command.process.poll() is None, command.output
        if number % 3 == 1:
            ranks_of(command)[0].kill()
        kill(command)
        commands.append(command)
        whole = list_checkpoints(killed)
        assert [checkpoint.resumable for checkpoint in whole] == [True] * len(whole)
        newest = max((checkpoint.step for checkpoint in whole), default=0)
        assert newest >= saved
        saved = newest
    assert sum(number % 3 != 2 for number in range(KILLS)) <= saved < STEPS, (
        f"{saved} of {STEPS} steps are saved after {KILLS} kills"
    )
    command = launch(killed, calls, *SETTINGS)
    command.wait_for(f"goes on after step {saved}")
    finish(command)
    assert_same_run(straight, killed, STEPS)
    for folder in (straight, killed):
        left = {path.name for path in (folder / "checkpoints").iterdir()}
        assert left == {f"global_step_{step}" for step in (STEPS - 1, STEPS)}
    left = [{path.name for path in folder.iterdir()} for folder in (straight, killed)]
    assert left[0] == left[1], "no leftovers"
    for command in commands:
        assert_all_ended(command)
