"""A run's folder is read while it is written, set aside and begun anew."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from router_r1.evaluation.frames import RoutedRecord
from router_r1.evaluation.watch.page import describe
from router_r1.evaluation.watch.run_state import SHOWN_STEPS, Phase, RunReader
from router_r1.pool.config import PoolConfig
from router_r1.world.simulated_llm import World
from tests.run_files import write_samples
from tests.world_records import world_records
from verl.trainer.run_folder import claim_run_folder, is_claimed
from verl.trajectory import AgentRecord

LONG_AGO_S = 3600


@dataclass(frozen=True)
class Sums(AgentRecord):
    """What another task's agent tells."""

    sum: int


@pytest.fixture(scope="module")
def records(world: World, embedded_pool: PoolConfig) -> list[RoutedRecord]:
    return world_records(world, embedded_pool, 4)


def metrics_lines(*steps: int) -> str:
    return "".join(json.dumps({"step": step, "critic/score/mean": 0.5}) + "\n" for step in steps)


def age(folder: Path) -> None:
    """As if nobody had written for an hour."""
    then = time.time() - LONG_AGO_S
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def test_a_run_that_has_not_begun_is_waited_for(tmp_path: Path) -> None:
    reader = RunReader(tmp_path / "run")
    assert reader.read().phase is Phase.WAITING
    with claim_run_folder(tmp_path / "run"):
        state = reader.read()
    assert (state.phase, state.step, state.total_steps) == (Phase.STARTING, 0, None)
    assert reader.read().phase is Phase.WAITING, "it went away without writing anything"


def test_a_run_is_followed_line_by_line(tmp_path: Path) -> None:
    reader = RunReader(tmp_path)
    (tmp_path / "config.yaml").write_text("trainer: {total_training_steps: 9}", encoding="utf-8")
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(metrics_lines(0, 1) + '{"step": 2, "critic/sc', encoding="utf-8")
    state = reader.read()
    assert (state.phase, state.step, state.total_steps) == (Phase.TRAINING, 1, 9)
    with metrics.open("a", encoding="utf-8") as file:
        file.write('ore/mean": 0.75}\n')
    state = reader.read()
    assert (state.step, state.rows[-1]["critic/score/mean"]) == (2, 0.75)


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    line = '{"step": 1, "a": NaN, "b": null, "c": "text", "d": [1], "e": 0.5, "f": Infinity}\n'
    (tmp_path / "metrics.jsonl").write_text(line, encoding="utf-8")
    (tmp_path / "config.yaml").write_text("trainer: [a, list]\npool: text\n", encoding="utf-8")
    (tmp_path / "summary.json").write_text('{"seconds": "many"}', encoding="utf-8")
    state = RunReader(tmp_path).read()
    assert state.rows == [{"step": 1, "e": 0.5}]
    assert (state.total_steps, state.group("pool"), state.total_seconds) == (None, {}, None)
    assert describe(state)["phase"] == "ended"


def test_samples_of_another_task_are_named(tmp_path: Path, records: list[RoutedRecord]) -> None:
    write_samples(tmp_path, 1, [replace(records[0], trajectory=Sums(3))])
    state = RunReader(tmp_path).read()
    assert state.samples == {}
    assert (
        "step_1.jsonl line 1 is no trajectory that this version of the agent writes"
        in state.faults[0]
    )


def test_torn_and_foreign_lines_do_not_hide_the_others(tmp_path: Path) -> None:
    lines = metrics_lines(1) + 'ean": 0.5}\n\n[1]\n{"no": "step"}\n' + metrics_lines(2)
    (tmp_path / "metrics.jsonl").write_bytes(lines.encode() + b"\xff\xfe\n")
    assert [row["step"] for row in RunReader(tmp_path).read().rows] == [1, 2]


@pytest.mark.parametrize("how", ["truncated", "replaced", "set aside"])
def test_a_new_run_of_the_same_name_shows_nothing_of_the_old_one(
    tmp_path: Path, how: str, records: list[RoutedRecord]
) -> None:
    reader = RunReader(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(metrics_lines(1, 2, 3), encoding="utf-8")
    write_samples(tmp_path, 3, records)
    (tmp_path / "summary.json").write_text('{"seconds": {"total": 1}}', encoding="utf-8")
    assert (reader.read().phase, list(reader.read().samples)) == (Phase.ENDED, [3])
    with claim_run_folder(tmp_path):
        if how == "set aside":
            assert reader.read().phase is Phase.STARTING
            metrics.write_text(metrics_lines(1), encoding="utf-8")
        elif how == "replaced":
            other = tmp_path / "other"
            other.write_text(metrics_lines(1), encoding="utf-8")
            other.replace(metrics)
        else:
            metrics.write_text(metrics_lines(1), encoding="utf-8")
        state = reader.read()
        assert (state.phase, state.step, state.samples) == (Phase.TRAINING, 1, {})


def test_a_run_that_stopped_early_is_quiet_and_one_that_ended_has_ended(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(metrics_lines(1), encoding="utf-8")
    age(tmp_path)
    reader = RunReader(tmp_path)
    assert reader.read().phase is Phase.QUIET
    summary = tmp_path / "summary.json"
    summary.write_text('{"seconds": ', encoding="utf-8")
    assert reader.read().summary == {}, "it is being written"
    summary.write_text('{"seconds": {}}', encoding="utf-8")
    assert reader.read().phase is Phase.ENDED


def test_a_slow_run_is_training_however_long_it_writes_nothing(tmp_path: Path) -> None:
    with claim_run_folder(tmp_path):
        (tmp_path / "metrics.jsonl").write_text(metrics_lines(1), encoding="utf-8")
        age(tmp_path)
        assert RunReader(tmp_path).read().phase is Phase.TRAINING


def test_whether_a_run_writes_is_seen_without_getting_in_its_way(tmp_path: Path) -> None:
    assert not is_claimed(tmp_path)
    with claim_run_folder(tmp_path):
        assert is_claimed(tmp_path)
    assert not is_claimed(tmp_path)


def test_the_newest_samples_are_shown_and_those_of_another_version_named(
    tmp_path: Path, records: list[RoutedRecord]
) -> None:
    for step in range(1, 12):
        write_samples(tmp_path, step, records)
    (tmp_path / "samples" / "step_11.jsonl").write_text('{"uid": "a"}\n', encoding="utf-8")
    state = RunReader(tmp_path).read()
    assert list(state.samples) == [10, 9, 8, 7]
    assert SHOWN_STEPS == 5
    assert [record.key for record in state.samples[10]] == [record.key for record in records]
    assert "step_11.jsonl line 1" in state.faults[0]
