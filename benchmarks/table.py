"""The table of all kept figures in ``benchmarks/README.md``.

Guarantees: it is made from the files under ``benchmarks/results`` and ``goals.yaml`` alone; text
outside the two markers stays as it is.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import (
    KEPT,
    MACHINE_FILE,
    ROOT,
    Goal,
    Goals,
    Machine,
    Result,
    load_goals,
    read_results,
)
from verl.utils.files import write_text

README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- figures: made by benchmarks/run.py -->", "<!-- end of figures -->"
_COLUMNS = ("figure", "here", "goal", "")


def write_table(readme: Path = README, folder: Path = KEPT) -> None:
    """Puts the table of what ``folder`` keeps between the markers of ``readme``.

    Raises:
        ValueError: if a marker is missing.
    """
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} lacks the line {BEGIN!r} or {END!r}")
    goals = load_goals()
    machines = sorted(file.parent for file in folder.glob(f"*/{MACHINE_FILE}"))
    parts = [_section(Machine.read(place), read_results(place), goals) for place in machines]
    write_text(readme, f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}")


def _section(machine: Machine, results: list[Result], goals: Goals) -> str:
    packages = ", ".join(f"{name} {found}" for name, found in machine.packages.items())
    lines = [
        f"### {machine.cores} cores of {machine.processor}",
        "",
        f"{machine.memory_gib} GiB, {machine.system}, Python {machine.python}, {packages}.",
    ]
    missed = []
    for result in results:
        lines += ["", f"`{result.command}` ({result.seconds:.0f} s, {result.date}, "]
        lines[-1] += f"commit {result.commit})"
        lines += ["", _row(_COLUMNS), _row(("---",) * len(_COLUMNS))]
        for name, value in result.figures.items():
            goal = goals[result.benchmark][name]
            lines.append(_row((name, show(value, goal.unit), _goal(goal), _verdict(goal, value))))
            if goal.reached(value) is False:
                missed.append(f"- {result.benchmark}, {name}: {goal.reason or 'not known yet'}")
    if missed:
        lines += ["", "Why goals are missed:", "", *missed]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def show(value: float, unit: str) -> str:
    """Three digits that count, and the unit."""
    digits = max(0, 2 if 1 <= abs(value) < 10 else 3 if abs(value) < 1 else 1)
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}f}"
    return f"{text} {unit}".strip()


def _goal(goal: Goal) -> str:
    if goal.goal is None:
        return ""
    return f"{'≥' if goal.better == 'higher' else '≤'} {show(goal.goal, goal.unit)}"


def _verdict(goal: Goal, value: float) -> str:
    return {None: "", True: "met", False: "**missed**"}[goal.reached(value)]
