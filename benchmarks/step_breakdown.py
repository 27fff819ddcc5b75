"""Where the seconds of a training step go, and how long a run takes to begin its first.

    .venv/bin/python -m benchmarks.step_breakdown                      of a short run that it starts
    .venv/bin/python -m benchmarks.step_breakdown outputs/quickstart   of a run that there was

The parts are what a run writes down of each step (``timing_s/*`` in metrics.jsonl), here of the
step of median length; the rest is what is left of it beside them. The first steps, in which the
engine is cold and the actor waits for the critic, are left out. The short run is the quickstart, on
two cores, with its cold start in the cache. Goals are the project's own: 5% for what the driver
does and for the rest, which are what is computed neither by engine nor by workers; 30 s from the
launch to the first step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.figures import ROOT
from benchmarks.first_policy import first_policy
from verl.config.ppo import RayConfig
from verl.trainer.cluster import ray_cluster
from verl.utils.console import console
from verl.utils.tracking import METRICS_FILE

STEPS, SKIPPED = 8, 3
PARTS = {
    "gen": "rollout",
    "reward": "reward",
    "log_probs": "log-probs, values",
    "adv": "advantages",
    "update": "update",
    "publish_weights": "publish",
}
DRIVER = ("reward", "adv")
Figures = dict[str, float]
Line = dict[str, Any]


def steps_of(run: Path) -> list[Line]:
    """The metrics of a run's training steps, in order."""
    file = run / METRICS_FILE
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "timing_s/step" in line]


def short_run(
    folder: Path,
    *overrides: str,
    recipe: str = "quickstart",
    watch: Callable[[int], None] = lambda _: None,
) -> float:
    """Trains a few steps; seconds from the launch to the first one. ``watch`` is called with the
    run's process after those that do not count."""
    with ray_cluster(RayConfig(num_cpus=2), num_ranks=2):
        first_policy()
    settings = (
        f"trainer.default_local_dir={folder}",
        f"world.folder={folder}/world",
        f"trainer.total_training_steps={STEPS}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        "trainer.logger=[jsonl]",
    )
    command = [
        sys.executable,
        "-m",
        "verl.trainer.main_ppo",
        f"recipe={recipe}",
        *settings,
        *overrides,
    ]
    with (folder / "output").open("w", encoding="utf-8") as output:
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            first = _until_step(1, process, folder)
            launched = time.monotonic() - float(first["timing_s/step"]) - start
            _until_step(SKIPPED, process, folder)
            watch(process.pid)
            process.wait()
        finally:
            process.terminate()
            process.wait()
    if process.returncode:
        raise RuntimeError((folder / "output").read_text(encoding="utf-8")[-2_000:])
    return launched


def _until_step(number: int, process: subprocess.Popen[bytes], folder: Path) -> Line:
    """Its metrics, as soon as they are there."""
    while process.poll() is None:
        if (folder / METRICS_FILE).is_file() and len(steps := steps_of(folder)) >= number:
            return steps[number - 1]
        time.sleep(0.05)
    raise RuntimeError((folder / "output").read_text(encoding="utf-8")[-2_000:])


def breakdown(run: Path) -> Figures:
    """Prints the parts of the median step; their shares of it."""
    steps = sorted(steps_of(run)[SKIPPED:], key=lambda line: float(line["timing_s/step"]))
    if not steps:
        raise SystemExit(f"{run} has no more than {SKIPPED} training steps")
    step = steps[len(steps) // 2]
    whole = float(step["timing_s/step"])
    seconds = {name: float(step.get(f"timing_s/{name}", 0.0)) for name in PARTS}
    rest = whole - sum(seconds.values())
    table = Table(title=f"the median of {len(steps)} steps", title_justify="left")
    for column in ("part", "s", "share"):
        table.add_column(column, justify="right" if column != "part" else "left")
    for name, took in seconds.items():
        table.add_row(PARTS[name], f"{took:.3f}", f"{took / whole:.1%}")
    table.add_row("rest", f"{rest:.3f}", f"{rest / whole:.1%}")
    table.add_row("step", f"{whole:.3f}", "")
    console.print(table)
    return {
        "a step": whole,
        "driver and rest": (sum(seconds[name] for name in DRIVER) + rest) / whole,
        "rollout": seconds["gen"] / whole,
        "log-probs and values": seconds["log_probs"] / whole,
        "update": seconds["update"] / whole,
        "publish": seconds["publish_weights"] / whole,
    }


def measure() -> Figures:
    """Of a short run; prints a table."""
    with tempfile.TemporaryDirectory(prefix="quickstart-") as name:
        launched = short_run(Path(name))
        figures = breakdown(Path(name))
    console.print(f"from the launch to the first step: {launched:.1f} s")
    return figures | {"launch to first step": launched}


def main() -> None:
    """Of a run that is named, or of a short one."""
    parser = argparse.ArgumentParser(description="where the seconds of a training step go")
    parser.add_argument("run", nargs="?", type=Path, help="a run's folder")
    run = parser.parse_args().run
    if run is None:
        measure()
    else:
        breakdown(run)


if __name__ == "__main__":
    main()
