"""Twenty SIGKILLs at random moments of a run on two ranks that saves each step."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from tests.soak.runs import assert_same_run, finish, launch, ranks_of, wait_until_saved
from verl.utils.checkpoints import list_checkpoints

KILLS, STEPS, SEED = 20, 90, 16
# Of a run: every step, Hugging Face files included, and two checkpoints are kept.
SETTINGS = (
    *(f"trainer.total_training_steps={STEPS}", "trainer.max_ckpt_to_keep=2"),
    "trainer.save_hf=always",
)


def test_twenty_kills_lose_nothing_older_than_the_last_save(tmp_path: Path) -> None:
    """Seven while it starts, the others within four seconds of a save; of those every third ends a
    rank as well, whose last words nobody hears."""
    rng = random.Random(SEED)
    calls, straight, killed = tmp_path / "calls.sqlite", tmp_path / "straight", tmp_path / "killed"
    finish(launch(straight, calls, *SETTINGS))
    saved = 0
    for kill in range(KILLS):
        command = launch(killed, calls, *SETTINGS)
        if kill % 3 == 2:
            command.wait_for("calls of this run")
            time.sleep(rng.uniform(0.0, 15.0))
        else:
            wait_until_saved(command, killed, saved + 1)
            time.sleep(rng.uniform(0.0, 4.0))
        assert command.process.poll() is None, command.output
        if kill % 3 == 1:
            ranks_of(command)[0].kill()
        os.kill(command.process.pid, 9)
        command.finish()
        assert command.survivors() == [], "what it started has ended with it"
        whole = list_checkpoints(killed)
        assert [checkpoint.resumable for checkpoint in whole] == [True] * len(whole)
        newest = max((checkpoint.step for checkpoint in whole), default=0)
        assert newest >= saved
        saved = newest
    assert 20 <= saved < STEPS, "some were killed in mid-run, none at its end"
    command = launch(killed, calls, *SETTINGS)
    command.wait_for(f"goes on after step {saved}")
    finish(command)
    assert_same_run(straight, killed, STEPS)
    for folder in (straight, killed):
        left = {path.name for path in (folder / "checkpoints").iterdir()}
        assert left == {f"global_step_{step}" for step in (STEPS - 1, STEPS)}
    left = [{path.name for path in folder.iterdir()} for folder in (straight, killed)]
    assert left[0] == left[1], "no leftovers"
