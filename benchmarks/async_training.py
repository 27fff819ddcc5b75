"""Training beside rollouts against waiting for them, with a slow pool.

    .venv/bin/python -m benchmarks.async_training

Two short runs, ``recipe=quickstart`` and ``quickstart_async``, whose LLMs take 115 times as long
as usual to answer: 2 s in the median, 4.6 s at most. Steps a second of three, after the first ones,
in which the engine is cold and the actor waits for the critic. The goal, 1.6 times as many, is the
project's own; what the routers learn in either way stands in docs/algorithms.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.step_breakdown import SKIPPED, Figures, short_run, steps_of
from verl.utils.console import console

SLOW = ("world.time_scale=115", f"trainer.total_training_steps={SKIPPED + 3}")


def seconds_of_a_step(recipe: str) -> tuple[float, float]:
    """Mean seconds of a run's later steps, and those of them that it waited for rollouts."""
    with tempfile.TemporaryDirectory(prefix="quickstart-") as name:
        short_run(Path(name), *SLOW, recipe=recipe)
        steps = steps_of(Path(name))[SKIPPED:]
    whole, waited = (
        float(np.mean([step[f"timing_s/{part}"] for step in steps])) for part in ("step", "gen")
    )
    return whole, waited


def measure() -> Figures:
    """Of both runs; prints a line each."""
    waiting, beside = seconds_of_a_step("quickstart"), seconds_of_a_step("quickstart_async")
    for level, (whole, waited) in enumerate((waiting, beside)):
        console.print(f"async_level={level}: {whole:.2f} s a step, {waited:.2f} s for rollouts")
    return {"steps a second, level 1 over level 0": waiting[0] / beside[0]}


if __name__ == "__main__":
    measure()
