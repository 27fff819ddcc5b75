"""The report of a training run: its validations, question by question."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router_r1.evaluation.comparison import EvaluationFileError
from router_r1.evaluation.frames import Changes, RoutedRecord, changes
from router_r1.evaluation.report.inputs import read_inputs
from router_r1.evaluation.report.page import write_report
from router_r1.pool.config import PoolConfig
from router_r1.world.simulated_llm import World
from tests.run_files import write_validation
from tests.world_records import world_records
from verl.trainer.evaluation.records import RecordError

CONFIG = "pool: {name: embedded}\nreward_metric: em\ncost_coe: 0.3\n"


@pytest.fixture(scope="module")
def validations(world: World, embedded_pool: PoolConfig) -> dict[int, list[RoutedRecord]]:
    return {step: world_records(world, embedded_pool, 40, seed=step) for step in (0, 20, 100)}


@pytest.fixture
def run(validations: dict[int, list[RoutedRecord]], tmp_path: Path) -> Path:
    """A run's folder, as the trainer leaves it."""
    for step, records in validations.items():
        write_validation(tmp_path, step, records)
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def unpack_index(page: str) -> Any:
    match = re.search(r'id="index">([^<]+)<', page)
    assert match is not None
    return json.loads(zlib.decompress(base64.b64decode(match.group(1))))


def test_validations_are_read_in_the_order_of_their_steps(
    run: Path, validations: dict[int, list[RoutedRecord]]
) -> None:
    inputs = read_inputs(run)
    assert inputs.steps == [0] * 40 + [20] * 40 + [100] * 40
    assert [record.key for record in inputs.newest] == [r.key for r in validations[100]]
    assert list(inputs.by_step) == [0, 20, 100]
    assert inputs.results == {"pool": "embedded", "reward_metric": "em", "cost_coe": 0.3}


def test_a_runs_config_says_how_its_rewards_came_about(run: Path) -> None:
    settings = "{form: multiplicative, cost_unit: dollars, latency_coe: 0.2, function: null}"
    (run / "config.yaml").write_text(f"{CONFIG}reward: {settings}\n", encoding="utf-8")
    index = unpack_index(write_report(run).read_text(encoding="utf-8"))
    assert (index["form"], index["cost_unit"]) == ("multiplicative", "dollars")
    assert index["latency_coe"] == 0.2


def test_the_page_holds_every_trajectory_and_its_step(
    run: Path, validations: dict[int, list[RoutedRecord]]
) -> None:
    page = write_report(run).read_text(encoding="utf-8")
    rows = unpack_index(page)["rows"]
    assert rows["step"] == [0] * 40 + [20] * 40 + [100] * 40
    assert rows["uid"][:40] == [record.uid for record in validations[0]]
    assert rows["em"][80:] == [record.scores["em"] for record in validations[100]]
    found = changes(validations[0], validations[100])
    assert f"<b>{found.became_right} became right</b>" in page
    assert "step 100" in page
    assert "Calls by validation" in page


def test_changes_are_counted_question_by_question(
    validations: dict[int, list[RoutedRecord]],
) -> None:
    right, wrong = (
        next(r for r in validations[0] if r.scores["em"] == em and len(r.trajectory.calls) == 1)
        for em in (1.0, 0.0)
    )

    def of(record: RoutedRecord, uid: str, llm: str) -> RoutedRecord:
        first, *others = record.trajectory.turns
        assert first.call is not None
        result = replace(first.call.result, llm=llm)
        first = replace(first, call=replace(first.call, result=result))
        trajectory = replace(record.trajectory, turns=(first, *others))
        return replace(record, uid=uid, trajectory=trajectory)

    before = [of(right, "a", "Atlas"), of(wrong, "b", "Atlas"), of(wrong, "c", "Atlas")]
    after = [of(wrong, "a", "Atlas"), of(right, "b", "Draco"), of(wrong, "c", "Atlas")]
    new = of(right, "only later", "Draco")
    assert changes(before, [*after, new]) == Changes(1, 1, 1, questions=3)
    assert changes(before, list(reversed(before))) == Changes(0, 0, 0, questions=3)


def test_a_run_with_one_validation_has_nothing_to_compare(
    validations: dict[int, list[RoutedRecord]], tmp_path: Path
) -> None:
    write_validation(tmp_path, 0, validations[0])
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert 'id="validations"' not in page
    assert "became right</b>" not in page


def test_a_folder_that_is_neither_run_nor_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"neither an evaluation .* nor validations"):
        write_report(tmp_path)


@pytest.mark.parametrize("config", ["pool: 3\n", f"{CONFIG}reward: 3\n"])
def test_a_config_of_another_kind_is_named(run: Path, config: str) -> None:
    (run / "config.yaml").write_text(config, encoding="utf-8")
    with pytest.raises(EvaluationFileError, match=r"config\.yaml"):
        read_inputs(run)
