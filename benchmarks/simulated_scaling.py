"""The model of a step's time against a simulation of every event, with up to 100,000 trajectories.

    .venv/bin/python -m benchmarks.simulated_scaling [--picture FILE.png]

The model (verl/trainer/check/step_time.py) knows averages; the simulation (event_simulation.py)
plays out each generation, call and turn. Both have the rates that one H100 and one of our cores
were measured to have with a model of 3 billion parameters (``measured_rates`` says where each is
from) and 128 trajectories a GPU, on 8, 64 and 512 GPUs, with fast, usual and slow services, with
and without a quota. Prints the rollout's time by both, what it waits for, and the quotas that the
model gives. The goal, a model between 0.8 and 1.25 of the simulation, is the project's own.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.ticker import FixedLocator, NullLocator
from rich.table import Table

from benchmarks.event_simulation import Simulated, simulate
from benchmarks.figures import KEPT
from verl.forecast import OutsideCalls, Work
from verl.trainer.check.gpu_rates import TRAJECTORY_S, TURN_S
from verl.trainer.check.step_time import (
    Bound,
    Rates,
    StepTime,
    rollout_time,
    step_time,
)
from verl.utils.console import console
from verl.utils.plots import BLUE, INK, ORANGE, figure_of, save_figure

H100_FILE = KEPT / "gpu_nvidia_h100_80gb_hbm3.json"
PARAMETERS, A_GPU = 3.086e9, 128
# A wait of a third of the others' makes them 5% longer (see Rollout.seconds).
QUOTA_MARGIN = 3.0
GPUS = (8, 64, 512)
# Median and 99th percentile of a call, seconds.
LATENCIES = {"fast": (0.5, 8.0), "usual": (2.0, 15.0), "slow": (10.0, 45.0)}
TIMEOUT_S = 60.0
SEEDS = {8: 12, 64: 4, 512: 2}  # by GPUs; fewer trajectories differ more
SHARES = (0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)
COLORS = (BLUE, "#a9c1ea", "#6b9e78", ORANGE, "#b9a3d6", INK)
Figures = dict[str, float]


@dataclass(frozen=True)
class Case:
    """One setting, by both."""

    name: str
    gpus: int
    work: Work
    modelled: StepTime
    simulated: list[Simulated]

    @property
    def simulated_s(self) -> float:
        """Mean over seeds: the slowest call of a rollout differs widely."""
        return statistics.fmean(one.seconds for one in self.simulated)

    @property
    def error(self) -> float:
        """The model's time of the rollout over the simulation's."""
        return self.modelled.rollout.seconds / self.simulated_s


def measured_rates(file: Path = H100_FILE) -> Rates:
    """Of a model of 3 billion parameters on one H100.

    A decode step is that of the LoRA run's rollout, five turns of 256 tokens of a trajectory, by
    the engine without CUDA graphs. What a sequence adds to it was not measured: it is a token's
    share of a forward pass, and its 1,300 tokens of keys and values (36 layers of 512 numbers of
    two bytes) at the card's copying speed.
    """
    content: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    update, run = content["update_three_b"], content["three_b_lora_step"]
    scoring = float(update["score_16384_tokens_per_s"])
    cache = 1_300 * 36 * 512 * 2 / float(content["machine"]["copy_bytes_per_s"])
    switched = content["engine"]["sleep_1_s"] + content["engine"]["publish_1_s"]
    return Rates(
        decode_step_s=float(run["step_3/timing_s/gen"]) / (5 * 256),
        decode_sequence_s=1 / scoring + cache,
        scoring_tokens_per_s=scoring,
        update_tokens_per_s=float(update["update_16384_tokens_per_s"]),
        publish_s=float(content["publish"]["publish_s"]) + float(switched),
        turn_s=TURN_S,
        trajectory_s=TRAJECTORY_S,
    )


def paper_like(gpus: int, latency: str) -> Work:
    """The paper's kind of step: 128 trajectories a GPU, 1.4 calls each."""
    median, p99 = LATENCIES[latency]
    calls = OutsideCalls(1.4, median, p99, limit_s=TIMEOUT_S)
    return Work(A_GPU * gpus, calls, prompt_tokens=500, turn_tokens=150, observation_tokens=200)


def cases() -> list[Case]:
    """All settings without a quota, and at each size one with a third of the quota that the model
    advises."""
    rates, found = measured_rates(), []
    for gpus in GPUS:
        for latency in LATENCIES:
            works = {latency: paper_like(gpus, latency)}
            if latency == "usual":
                third = max(1, quota_for_rollouts(works[latency], rates, gpus) // 3)
                calls = replace(works[latency].calls, at_once=third)
                works["usual, a third"] = replace(works[latency], calls=calls)
            for name, work in works.items():
                modelled = step_time(work, rates, gpus, PARAMETERS)
                played = [simulate(work, rates, gpus, seed) for seed in range(SEEDS[gpus])]
                found.append(Case(name, gpus, work, modelled, played))
    return found


def quota_for_rollouts(work: Work, rates: Rates, gpus: int) -> int:
    """Calls at once with which a quota makes what follows the first turn of a synchronous rollout
    5% longer than no quota would."""
    waits = rollout_time(work, rates, gpus).waits
    served = work.trajectories * work.calls.each * work.calls.mean_s
    return math.ceil(QUOTA_MARGIN * served / math.hypot(*(waits | {Bound.QUOTA: 0.0}).values()))


def quota_for_overlap(work: Work, step: StepTime) -> int:
    """Calls at once that keep GPUs busy where rollouts overlap training: all of a step's calls are
    served in the time in which the GPUs compute."""
    served = work.trajectories * work.calls.each * work.calls.mean_s
    return math.ceil(served / computing_s(step))


def computing_s(step: StepTime) -> float:
    """In which the GPUs have work: the trainer's parts, and the engines' own time."""
    engines = step.rollout.first_s + step.rollout.waits[Bound.ENGINE]
    return engines + step.scoring_s + step.update_s + step.publish_s


def show(found: list[Case]) -> None:
    """The tables of docs/scaling.md."""
    table = Table(title="a rollout, model and simulation", title_justify="left")
    for column in ("GPUs", "trajectories", "calls", "model, s", "simulated, s", "ratio"):
        table.add_column(column, justify="right" if column != "calls" else "left")
    for column in ("waits for", "engines busy", "driver busy", "calls at once"):
        table.add_column(column, justify="right" if column != "waits for" else "left")
    for one in found:
        rollout, played = one.modelled.rollout, one.simulated[0]
        table.add_row(
            *(str(one.gpus), f"{one.work.trajectories:,}", one.name, f"{rollout.seconds:.1f}"),
            *(f"{one.simulated_s:.1f}", f"{one.error:.2f}", str(rollout.bound)),
            *(f"{played.engine_share:.0%}", f"{played.driver_share:.0%}", f"{played.most_calls:,}"),
        )
    console.print(table)
    table = Table(title="a whole step by the model, s", title_justify="left")
    for column in ("GPUs", "calls", "rollout", "scoring", "update", "publish", "driver", "step"):
        table.add_column(column, justify="right" if column != "calls" else "left")
    for column in ("GPUs busy", "quota, rollouts", "quota, overlap"):
        table.add_column(column, justify="right")
    rates = measured_rates()
    for one in found:
        step, parts = one.modelled, one.modelled.rollout.seconds
        table.add_row(
            *(str(one.gpus), one.name, f"{parts:.1f}", f"{step.scoring_s:.1f}"),
            *(f"{step.update_s:.1f}", f"{step.publish_s:.1f}", f"{step.driver_s:.1f}"),
            *(f"{step.seconds:.1f}", f"{computing_s(step) / step.seconds:.0%}"),
            f"{quota_for_rollouts(one.work, rates, one.gpus):,}",
            f"{quota_for_overlap(one.work, step):,}",
        )
    console.print(table)


def draw(image: Path) -> None:
    """The picture of docs/scaling.md: what a quota costs, and where a step's seconds go."""
    rates = measured_rates()
    with figure_of(10, 3.6) as figure:
        left, right = figure.subplots(1, 2)
        for gpus, color in zip(GPUS, (BLUE, ORANGE, INK), strict=True):
            work = paper_like(gpus, "usual")
            quotas = [max(1, round(A_GPU * gpus * share)) for share in SHARES]
            limited = [replace(work, calls=replace(work.calls, at_once=one)) for one in quotas]
            times = [rollout_time(one, rates, gpus).seconds for one in limited]
            left.plot(quotas, times, color=color, linewidth=2, label=f"{gpus} GPUs")
            played = [
                statistics.fmean(simulate(w, rates, gpus, n).seconds for n in range(SEEDS[gpus]))
                for w in limited[::2]
            ]
            left.plot(quotas[::2], played, "o", color=color, markersize=4)
        left.set(xscale="log", yscale="log", xlabel="calls allowed at once", ylabel="seconds")
        left.yaxis.set_major_locator(FixedLocator([30, 50, 100, 200, 300]))
        left.yaxis.set_major_formatter("{x:.0f}")
        left.yaxis.set_minor_locator(NullLocator())
        left.set_title("a rollout: model (lines), simulation (dots)")
        left.legend()
        steps = [step_time(paper_like(n, "usual"), rates, n, PARAMETERS) for n in GPUS]
        below = [0.0] * len(GPUS)
        for (name, seconds), color in zip(parts_of(steps).items(), COLORS, strict=True):
            right.bar([str(n) for n in GPUS], seconds, bottom=below, color=color, label=name)
            below = [low + one for low, one in zip(below, seconds, strict=True)]
        right.set(xlabel="GPUs, 128 trajectories each", ylabel="seconds")
        right.set_title("a step, by the model")
        right.legend(loc="upper left")
        save_figure(figure, image)


def parts_of(steps: list[StepTime]) -> dict[str, list[float]]:
    """Seconds by part, for each step; the rollout in the engines' own time and the rest of it."""
    engine = [step.rollout.first_s + step.rollout.waits[Bound.ENGINE] for step in steps]
    return {
        "rollout, engines' own": engine,
        "rollout, waiting": [s.rollout.seconds - own for s, own in zip(steps, engine, strict=True)],
        "scoring": [step.scoring_s for step in steps],
        "update": [step.update_s for step in steps],
        "publish": [step.publish_s for step in steps],
        "driver": [step.driver_s for step in steps],
    }


def measure() -> Figures:
    """Models and simulates every case; prints tables."""
    found = cases()
    show(found)
    rates = replace(measured_rates(), turn_s=0.0)
    calls = replace(paper_like(1, "usual").calls, each=1.4)
    start = time.perf_counter()
    largest = simulate(
        replace(paper_like(1, "usual"), trajectories=100_000, calls=calls), rates, 512
    )
    seconds = time.perf_counter() - start
    assert largest.ended == 100_000
    text = f"100,000 trajectories on 512 engines with a driver that takes no time: {seconds:.0f} s"
    console.print(
        f"{text} to simulate {largest.seconds:.0f} s; {largest.most_calls:,} calls at once"
    )
    errors = [one.error for one in found]
    return {
        "model over simulation, lowest": min(errors),
        "model over simulation, highest": max(errors),
        "calls at once in the largest simulation": float(largest.most_calls),
    }


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description="the model of a step against a simulation")
    parser.add_argument("--picture", type=Path, help="draws instead")
    picture = parser.parse_args().picture
    if picture is None:
        measure()
    else:
        draw(picture)


if __name__ == "__main__":
    main()
