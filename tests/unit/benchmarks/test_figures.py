"""The result format, the table and the regression check; nothing is timed."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from benchmarks import run, table
from benchmarks.figures import (
    KEPT,
    Goal,
    GoalError,
    Machine,
    Result,
    compare,
    load_goals,
    read_results,
    require_goals,
)
from benchmarks.run import better_of, check
from benchmarks.table import BEGIN, END, show, write_table

GOALS = {
    "loop": {
        "speed": Goal("higher", goal=2.0, tolerance=0.2, reason="not today"),
        "waste": Goal("lower", goal=1.0, tolerance=0.1),
        "seconds": Goal("lower", unit="s"),
    }
}


def result(**figures: float) -> Result:
    return Result("loop", "python -m benchmarks.loop", "0123456", "2026-11-26", 3.0, figures)


@pytest.mark.parametrize(
    ("figures", "fallen"),
    [
        ({"speed": 2.41, "waste": 1.09}, []),
        ({"speed": 2.39, "waste": 1.0}, ["speed"]),
        ({"speed": 9.0, "waste": 1.11}, ["waste"]),
        ({"waste": 1.0}, ["speed"]),  # no longer measured
    ],
)
def test_a_ratio_falls_when_it_is_worse_by_more_than_its_tolerance(
    figures: dict[str, float], fallen: list[str]
) -> None:
    comparisons = compare([result(speed=3.0, waste=1.0, seconds=1.0)], [result(**figures)], GOALS)
    assert [one.figure for one in comparisons if one.fell] == fallen


def test_seconds_are_not_compared_and_benchmarks_that_did_not_run_neither() -> None:
    kept = [result(seconds=1.0), Result("other", "", "", "", 1.0, {"speed": 1.0})]
    assert compare(kept, [result(seconds=100.0)], GOALS) == []


def test_a_result_is_read_back_as_it_was(tmp_path: Path) -> None:
    machine = Machine.here()
    machine.write(tmp_path)
    result(speed=2.5).write(tmp_path / machine.name)
    assert read_results(tmp_path / machine.name) == [result(speed=2.5)]
    assert Machine.read(tmp_path / machine.name) == machine


def test_noise_that_does_not_come_twice_does_not_fail_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result(speed=3.0, waste=1.0).write(tmp_path)
    slow = result(speed=1.0, waste=1.0)
    monkeypatch.setattr(run, "run_one", lambda *_: result(speed=2.9, waste=2.0))
    assert check([slow], tmp_path, GOALS) == 0
    monkeypatch.setattr(run, "run_one", lambda *_: slow)
    assert check([slow], tmp_path, GOALS) == 1


def test_the_check_fails_where_nothing_is_kept(tmp_path: Path) -> None:
    assert check([result(speed=3.0)], tmp_path / "nothing", GOALS) == 1


def test_of_two_measurements_the_better_value_counts() -> None:
    better = better_of(result(speed=1.0, waste=1.0), result(speed=2.0, waste=3.0), GOALS)
    assert better.figures == {"speed": 2.0, "waste": 1.0}


def test_the_table_replaces_what_stands_between_the_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "load_goals", lambda: GOALS)
    machine = Machine.here()
    machine.write(tmp_path)
    result(speed=1.5, waste=1.0, seconds=0.25).write(tmp_path / machine.name)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_table(readme, tmp_path)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| speed | 1.50 | ≥ 2.00 | **missed** |" in text
    assert "| waste | 1.00 | ≤ 1.00 | met |" in text
    assert "- loop, speed: not today" in text
    write_table(readme, tmp_path)
    assert readme.read_text(encoding="utf-8") == text


def test_a_figure_without_a_goal_is_refused() -> None:
    with pytest.raises(GoalError, match="speeed"):
        require_goals("loop", {"speeed": 1.0}, GOALS)


def test_every_benchmark_with_goals_can_be_measured_and_every_kept_figure_has_one() -> None:
    goals = load_goals()
    for benchmark in goals:
        assert callable(importlib.import_module(f"benchmarks.{benchmark}").measure)
    for folder in filter(Path.is_dir, KEPT.iterdir()):
        for kept in read_results(folder):
            require_goals(kept.benchmark, kept.figures, goals)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.5, "", "0.500"), (1.234, "s", "1.23 s"), (12.34, "", "12.3"), (9999.6, "MB", "10,000 MB")],
)
def test_three_digits_are_shown(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text
