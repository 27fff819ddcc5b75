"""A flame graph of training steps: what the cores do in driver, ranks and engine.

    .venv/bin/python -m benchmarks.step_flame [step.svg]

py-spy looks 50 times a second at every thread that runs, in the quickstart's driver and in all
processes that it has started, during its steps 4 to 6. The width of a box is its share of these
looks; a thread of Ray's that waits in C++ counts as running, with no box below it. The picture is
kept beside the figures of this machine; in a browser of its own it says what a box is that the
pointer is on, and a click goes into it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import KEPT, Machine
from benchmarks.step_breakdown import short_run
from verl.utils.console import console
from verl.utils.files import write_text

RATE, SECONDS = 50, 18
_PROCESS = re.compile(
    r"<title>process \d+:&quot;(?P<command>[^<]*)&quot; (?P<share>\([^<]*\))</title>"
    r"(?P<box><rect [^>]*/><text [^>]*>)[^<]*</text>"
)
_TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*</text>')


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


def name_processes(svg: str) -> str:
    """py-spy's picture with a short name in place of each process's command."""
    return _TITLE.sub(r"\1Training steps of the quickstart</text>", _PROCESS.sub(_named, svg))


def _named(process: re.Match[str]) -> str:
    # Ray gives its actors a title; of the others the program says what it is.
    program = process["command"].split()[0].rpartition("/")[2]
    name = "driver" if " verl.trainer.main_ppo " in process["command"] else program
    return f"<title>{name} {process['share']}</title>{process['box']}{name}</text>"


def main() -> None:
    """Trains a few steps, and draws."""
    kept = KEPT / Machine.here().name / "step.svg"
    parser = argparse.ArgumentParser(description="a flame graph of training steps")
    parser.add_argument("picture", nargs="?", type=Path, default=kept, help="an SVG file")
    picture: Path = parser.parse_args().picture
    with tempfile.TemporaryDirectory(prefix="quickstart-") as name:
        recorded = Path(name) / "step.svg"
        short_run(Path(name), watch=lambda pid: record(pid, recorded))
        write_text(picture, name_processes(recorded.read_text(encoding="utf-8")))
    console.print(f"wrote {picture}")


if __name__ == "__main__":
    main()
