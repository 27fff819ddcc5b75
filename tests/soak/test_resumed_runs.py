"""Six steps straight are three, SIGKILL and three more: to the bit, and on one rank nearly so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.commands import metrics_of
from tests.soak.runs import (
    assert_same_run,
    compared,
    finish,
    kill,
    launch,
    wait_until_saved,
    weights_of,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]
STEPS = ("trainer.total_training_steps=6", "trainer.max_ckpt_to_keep=null")


@pytest.mark.parametrize("recipe", ["quickstart", "quickstart_grpo"])
def test_a_killed_run_is_the_straight_run(recipe: str, tmp_path: Path) -> None:
    calls, straight, killed = tmp_path / "calls.sqlite", tmp_path / "straight", tmp_path / "killed"
    finish(launch(straight, calls, *STEPS, recipe=recipe))
    command = launch(killed, calls, *STEPS, recipe=recipe)
    wait_until_saved(command, killed, 3)
    kill(command)
    shutil.rmtree(killed / "checkpoints/global_step_4", ignore_errors=True)
    shutil.copytree(killed, tmp_path / "on_one")
    again = launch(killed, calls, *STEPS, recipe=recipe)
    again.wait_for("goes on after step 3")
    finish(again)
    assert_same_run(straight, killed, 6)

    alone = launch(tmp_path / "on_one", calls, *STEPS, "trainer.n_gpus_per_node=1", recipe=recipe)
    alone.wait_for("goes on after step 3")
    finish(alone)
    expected, found = weights_of(straight, 6), weights_of(tmp_path / "on_one", 6)
    for name, weight in expected.items():
        # Attention does not feel a bias of its keys: its gradient is rounding, scaled up by Adam.
        limit = 1e-4 if name.endswith("k_proj.bias") else 1e-6
        assert (weight - found[name]).abs().max() < limit, name
    for one, two in zip(metrics_of(straight), metrics_of(tmp_path / "on_one"), strict=True):
        for name, value in compared(one).items():
            # One token at the bound is 5e-3 of some 200.
            limit = 5e-3 if name.endswith("clipfrac") else 1e-5
            assert two[name] == pytest.approx(value, rel=1e-3, abs=limit), (one["step"], name)
