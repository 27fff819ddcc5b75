"""How long the help of ``router-r1`` and of its commands takes, each in a process of its own.

    .venv/bin/python benchmarks/command_help.py [--repeat N]

The claim is at most 0.5 s. Prints the median and the slowest in milliseconds, and the processor's
time, which other work on the machine does not lengthen as much.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from rich.table import Table

from router_r1.cli.commands import COMMANDS
from verl.utils.console import console

# Today's commands beside those of router-r1.
OTHERS = (
    ("infer_vllm.py",),
    ("-m", "router_r1.serve"),
    ("-m", "router_r1.pool"),
    ("-m", "router_r1.evaluation.report"),
    ("data_process/qa_train_merge.py",),
)


def run_once(words: Sequence[str]) -> tuple[float, float]:
    """Milliseconds of wall clock and of processor time until the process has ended."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *words, "--help"], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, os.times()
    used = after.children_user - before.children_user + after.children_system
    return 1000 * wall, 1000 * (used - before.children_system)


def measure(repeat: int = 5) -> dict[str, float]:
    """Prints a table."""
    medians, processor_medians = [], []
    own = [("-m", "router_r1.cli"), *(("-m", "router_r1.cli", c.name) for c in COMMANDS)]
    table = Table(title="milliseconds to show the help", title_justify="left")
    table.add_column("command")
    for column in ("median", "slowest", "processor"):
        table.add_column(column, justify="right")
    for words in (*own, *OTHERS):
        measured = [run_once(words) for _ in range(repeat)]
        walls = [wall for wall, _ in measured]
        used = statistics.median(processor for _, processor in measured)
        medians.append(statistics.median(walls))
        processor_medians.append(used)
        name = " ".join(words).replace("-m router_r1.cli", "router-r1")
        table.add_row(name, f"{medians[-1]:.0f}", f"{max(walls):.0f}", f"{used:.0f}")
    console.print(table)
    return {
        "slowest help": max(medians),
        "slowest help, processor time": max(processor_medians),
    }


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, help="processes a command")
    measure(parser.parse_args().repeat)


if __name__ == "__main__":
    main()
