"""Measures what only a GPU can show: run it once on every new kind of card.

    python scripts/gpu_check.py                                       all stages
    python scripts/gpu_check.py --stages machine,head --minutes 5     some, within a time limit
    python scripts/gpu_check.py --device cpu                          all, small, without a GPU

Guarantees: every stage runs in a process of its own and within the time that is left, so one that
fails, hangs or runs out of memory costs nothing but itself; what a stage measured is on disk the
moment it is known. The last line names the file that joins them, gpu_<card>.json (in
benchmarks/results unless told otherwise), in which figures of stages that were not run again stay.

Stages need this repository and small packages only (see each module of scripts/gpu_stages); the
last two also need ray and vllm, and say so where they are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_stages import STAGES
from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).resolve().parents[1]
_KILLED_AFTER_S = 5.0
console = Console()


@dataclass(frozen=True)
class StageResult:
    """What one stage left: its figures, and why it ended early (None: it did not)."""

    name: str
    seconds: float
    figures: dict[str, Any]
    error: str | None


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; unknown stages are refused by name."""
    parser = argparse.ArgumentParser(description="measures this project on a GPU, stage by stage")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--stages", default=",".join(STAGES), help=f"comma list of {', '.join(STAGES)}"
    )
    parser.add_argument("--minutes", type=float, default=25.0, help="time limit of all stages")
    parser.add_argument("--output", type=Path, default=_ROOT / "benchmarks" / "results")
    parsed = parser.parse_args(arguments)
    parsed.stages = parsed.stages.split(",")
    if unknown := [name for name in parsed.stages if name not in STAGES]:
        parser.error(f"unknown stage {', '.join(unknown)}; choose from {', '.join(STAGES)}")
    if parsed.minutes <= 0:
        parser.error(f"--minutes must be > 0, got {parsed.minutes:g}")
    return parsed


def run_stage(name: str, device: str, output: Path, seconds: float) -> StageResult:
    """Runs one stage in a process of its own, for at most ``seconds``."""
    file, log = output / f"{name}.json", output / f"{name}.log"
    file.unlink(missing_ok=True)
    python_path = os.pathsep.join([str(_ROOT), str(_ROOT / "scripts"), *_inherited_path()])
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "gpu_stages.run", name, "--device", device, "--output", str(file)],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"},
        stdout=log.open("w", encoding="utf-8"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    error = None
    try:
        if process.wait(timeout=seconds):
            error = _last_line(log)
    except subprocess.TimeoutExpired:
        _end(process)
        error = f"not finished within {seconds:.0f} s"
    figures = json.loads(file.read_text()) if file.is_file() else {}
    return StageResult(name, time.monotonic() - start, figures, error)


def _inherited_path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a stage with all that it started."""
    os.killpg(process.pid, 15)
    try:
        process.wait(timeout=_KILLED_AFTER_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def join(results: list[StageResult], output: Path, command: str) -> Path:
    """Writes all figures into the card's file, beside those that it holds of other stages."""
    cards = [result.figures["card"] for result in results if "card" in result.figures]
    card = re.sub(r"[^a-z0-9]+", "_", (cards or ["unknown"])[0].lower()).strip("_")
    path = output / f"gpu_{card}.json"
    stages = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for result in results:
        stages[result.name] = {
            "command": command,
            "date": time.strftime("%Y-%m-%d"),
            "seconds": round(result.seconds, 1),
            "error": result.error,
            **result.figures,
        }
    path.write_text(json.dumps(stages, indent=1) + "\n", encoding="utf-8")
    return path


def main(arguments: list[str]) -> int:
    """Runs the stages one after the other; 1 if one failed."""
    parsed = parse_arguments(arguments)
    stages = parsed.output.resolve() / "stages"
    stages.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * parsed.minutes
    results = []
    table = Table("stage", "seconds", "result", title="figures of this card")
    for name in parsed.stages:
        left = deadline - time.monotonic()
        if left <= 0:
            results.append(StageResult(name, 0.0, {}, "no time left"))
        else:
            console.print(f"{name}: {STAGES[name].about} …", highlight=False)
            results.append(run_stage(name, parsed.device, stages, left))
        result = results[-1]
        table.add_row(name, f"{result.seconds:.0f}", result.error or _brief(result.figures))
    console.print(table)
    path = join(results, parsed.output, f"python scripts/gpu_check.py {' '.join(arguments)}")
    console.print(f"all figures: {path}; logs: {stages}", highlight=False, soft_wrap=True)
    return int(any(result.error for result in results))


def _brief(figures: dict[str, Any]) -> str:
    shown = [f"{name} {value:.4g}" for name, value in figures.items() if isinstance(value, float)]
    return ", ".join(shown[:6]) or f"{len(figures)} entries"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
