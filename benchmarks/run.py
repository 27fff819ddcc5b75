"""Runs benchmarks one after the other, keeps what they measured, or compares it with what is kept.

    bash scripts/run_benchmarks.sh                      all, into benchmarks/results and README.md
    bash scripts/run_benchmarks.sh --only lockstep,growth
    bash scripts/run_benchmarks.sh --check              all, against benchmarks/results

Each runs in a process of its own, so that one that fails costs nothing but itself. ``--check``
writes into outputs/benchmarks; a benchmark whose ratio fell by more than its tolerance runs once
more, and the better value counts, since noise rarely comes twice. It ends with 1 if a ratio fell or
a benchmark failed.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from benchmarks.figures import (
    KEPT,
    ROOT,
    Comparison,
    Goals,
    Machine,
    Result,
    compare,
    load_goals,
    read_results,
    require_goals,
)
from benchmarks.table import show, write_table
from verl.utils.console import console, set_up_logging
from verl.utils.files import write_text

CHECKED = ROOT / "outputs" / "benchmarks"
LIMIT_S = 600.0
logger = logging.getLogger(__name__)


@functools.cache
def commit() -> str:
    """Of the code at the start, short; "+" marks files that were changed since."""
    words = ("git", "describe", "--always", "--abbrev=7", "--dirty=+", "--exclude=*")
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def run_one(benchmark: str, goals: Goals) -> Result | None:
    """Measures in a fresh process; None if that failed, which is said."""
    logger.info("%s", benchmark)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "figures.json"
        command = [sys.executable, "-m", "benchmarks.run", "--measure", benchmark, str(file)]
        try:
            quiet = os.environ | {"TQDM_DISABLE": "1"}
            subprocess.run(command, cwd=ROOT, check=True, timeout=LIMIT_S, env=quiet)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            logger.error("%s failed: %s", benchmark, error)
            return None
        figures: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    require_goals(benchmark, figures, goals)
    return Result(
        benchmark=benchmark,
        command=f".venv/bin/python -m benchmarks.{benchmark}",
        commit=commit(),
        date=datetime.date.today().isoformat(),
        seconds=round(time.monotonic() - start, 1),
        figures={figure: float(f"{value:.4g}") for figure, value in figures.items()},
    )


def measure(benchmark: str, file: Path) -> None:
    """What the process of :func:`run_one` does."""
    module = importlib.import_module(f"benchmarks.{benchmark}")
    write_text(file, json.dumps(module.measure()))


def better_of(first: Result, second: Result, goals: Goals) -> Result:
    """The better value of each figure that both have."""
    expected = goals[first.benchmark]
    figures = {
        name: expected[name].best(first.figures.get(name, value), value)
        for name, value in second.figures.items()
    }
    return replace(second, figures=figures, seconds=first.seconds + second.seconds)


def show_comparison(comparisons: Sequence[Comparison]) -> None:
    """Every ratio beside the kept one; those that fell stand out."""
    table = Table(title="ratios of this run, and those kept", title_justify="left")
    for column in ("benchmark", "ratio", "kept", "now", "tolerance", ""):
        table.add_column(column, justify="right" if column in ("kept", "now") else "left")
    for one in comparisons:
        now = "not measured" if one.value is None else show(one.value, "")
        verdict = "[bold red]fell[/]" if one.fell else "ok"
        kept, tolerance = show(one.kept, ""), f"{one.tolerance:.0%}"
        table.add_row(one.benchmark, one.figure, kept, now, tolerance, verdict)
    console.print(table)


def check(results: list[Result], kept: Path, goals: Goals) -> int:
    """Compares, measures again what fell, and shows the outcome; the exit code."""
    before = read_results(kept)
    if not before:
        logger.error("nothing is kept in %s to compare with", kept)
        return 1
    fallen = {one.benchmark for one in compare(before, results, goals) if one.fell}
    for index, result in enumerate(results):
        if result.benchmark in fallen and (again := run_one(result.benchmark, goals)):
            results[index] = better_of(result, again, goals)
    comparisons = compare(before, results, goals)
    show_comparison(comparisons)
    return int(any(one.fell for one in comparisons))


def main() -> None:
    """Parses the command line and measures."""
    goals = load_goals()
    parser = argparse.ArgumentParser(description="runs the benchmarks one after the other")
    parser.add_argument("--only", default=",".join(goals), help=f"comma list of {', '.join(goals)}")
    parser.add_argument("--check", action="store_true", help="compare with what is kept")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    set_up_logging()
    if arguments.measure is not None:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    names = arguments.only.split(",")
    if unknown := sorted(set(names) - set(goals)):
        parser.error(f"no benchmark {', '.join(unknown)}; choose from {', '.join(goals)}")
    machine = Machine.here()
    commit()  # before results, which are files too, are written
    folder = CHECKED if arguments.check else KEPT
    machine.write(folder)
    results = []
    for name in names:
        if (result := run_one(name, goals)) is not None:
            results.append(result)
            result.write(folder / machine.name)
    failed = len(results) < len(names)
    if arguments.check:
        sys.exit(check(results, KEPT / machine.name, goals) or failed)
    write_table()
    sys.exit(failed)


if __name__ == "__main__":
    main()
