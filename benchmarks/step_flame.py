"""A flame graph of training steps: what the cores do in driver, ranks and engine.

    .venv/bin/python -m benchmarks.step_flame [step.svg]

py-spy looks 50 times a second at every thread that runs, in the quickstart's driver and all
processes that it has started, during its steps 4 to 6. The width of a box is its share of these
looks; a browser shows the picture, and goes into a box that is clicked on. The picture that is kept
lies beside the figures of this machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import KEPT, Machine
from benchmarks.step_breakdown import short_run
from verl.utils.console import console

RATE, SECONDS = 50, 18


def record(pid: int, target: Path) -> None:
    """Writes the graph of a process and its descendants.

    Raises:
        RuntimeError: if py-spy may not look at them (it needs root, or the right to trace).
    """
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("py-spy"), "record", "--subprocesses"),
            *("--pid", str(pid), "--rate", str(RATE), "--duration", str(SECONDS)),
            *("--format", "flamegraph", "--output", str(target)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"py-spy cannot record process {pid}: {done.stderr.strip()}")


def main() -> None:
    """Trains a few steps, and draws."""
    kept = KEPT / Machine.here().name / "step.svg"
    parser = argparse.ArgumentParser(description="a flame graph of training steps")
    parser.add_argument("picture", nargs="?", type=Path, default=kept, help="an SVG file")
    picture: Path = parser.parse_args().picture
    with tempfile.TemporaryDirectory(prefix="quickstart-") as name:
        short_run(Path(name), watch=lambda pid: record(pid, picture))
    console.print(f"wrote {picture}")


if __name__ == "__main__":
    main()
