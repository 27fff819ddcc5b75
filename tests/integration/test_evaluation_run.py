"""``bash test.sh`` on the small run's checkpoint, its calls replayed from the run's recording."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from router_r1.llm_agent.trajectory import RoutedTrajectory
from tests.integration.commands import SMALL, Command, start
from verl.trainer.evaluation.records import read_parquet

pytestmark = pytest.mark.engine


def evaluate(folder: Path, eval_folder: Path, *overrides: str) -> Command:
    command = start(
        *("bash", "test.sh", *SMALL, f"trainer.default_local_dir={folder}"),
        *(f"world.folder={folder}/world", f"evaluation.folder={eval_folder}"),
        *(f"evaluation.files=[{folder}/world/validation.parquet]", "evaluation.limit=24"),
        *("pool.recording.mode=replay", f"pool.recording.path={folder}/calls.sqlite"),
        *overrides,
        CUDA_VISIBLE_DEVICES="",
    )
    command.finish()
    return command


@pytest.fixture(scope="module")
def evaluated(
    small_run: tuple[Command, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Command, Path]:
    _, folder = small_run
    eval_folder = tmp_path_factory.mktemp("eval")
    return evaluate(folder, eval_folder), eval_folder


def test_it_agrees_with_the_trainings_validation_question_by_question(
    small_run: tuple[Command, Path], evaluated: tuple[Command, Path]
) -> None:
    _, folder = small_run
    command, eval_folder = evaluated
    assert command.process.returncode == 0, command.output
    assert command.survivors() == []
    scored = read_parquet(eval_folder / "questions.parquet", RoutedTrajectory)
    lines = (folder / "validation" / "step_3.jsonl").read_text().splitlines()
    assert len(scored) == len(lines) == 24
    for record, line in zip(scored, lines, strict=True):
        validated = json.loads(line)
        assert record.trajectory.response_text == validated["response_text"]
        assert record.trajectory.cost == validated["cost"]
        for column in ("em", "f1", "reward", "cost_reward", "route_cnt"):
            assert record.scores[column] == validated[column]
        assert all(call.result.replayed for call in record.trajectory.calls)


def test_infer_says_the_same(
    small_run: tuple[Command, Path], evaluated: tuple[Command, Path], tmp_path: Path
) -> None:
    """The third way to the same answers; the simulated pool replies as it did in training."""
    _, folder = small_run
    _, eval_folder = evaluated
    scored = read_parquet(eval_folder / "questions.parquet", RoutedTrajectory)
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(record.prompt for record in scored) + "\n")
    actor = folder / "checkpoints" / "global_step_3" / "actor"
    command = start(
        *(sys.executable, "infer_vllm.py", "--json"),
        *("--model_path", str(actor), "--questions_file", str(questions)),
        CUDA_VISIBLE_DEVICES="",
    )
    assert command.finish() == 0, command.output
    answers = [json.loads(line) for line in command.output.splitlines() if line.startswith("{")]
    assert len(answers) == len(scored)
    by_question = {answer["question"]: answer for answer in answers}
    for record in scored:
        answer = by_question[record.prompt]
        assert answer["trajectory"] == record.trajectory.response_text
        assert answer["cost"] == record.trajectory.cost
        assert answer["answer"] == record.trajectory.answer


def test_it_shows_a_table_and_writes_results(evaluated: tuple[Command, Path]) -> None:
    command, eval_folder = evaluated
    for words in ("world_onehop", "world_twohop", "average", "95% bootstrap"):
        assert words in command.output
    results = json.loads((eval_folder / "results.json").read_text())
    scored = read_parquet(eval_folder / "questions.parquet", RoutedTrajectory)
    by_source = {s["data_source"]: s for s in results["summaries"]}
    for source in ("world_onehop", "world_twohop"):
        chosen = [r.scores["em"] for r in scored if r.data_source == source]
        assert by_source[source]["questions"] == len(chosen)
        estimate = by_source[source]["estimates"]["em"]
        assert estimate["mean"] == pytest.approx(sum(chosen) / len(chosen))
        assert estimate["low"] <= estimate["mean"] <= estimate["high"]
    assert results["pool"] == "embedded"
    assert results["model"].endswith("global_step_3/actor")


def test_what_cannot_be_scored_is_named(tmp_path: Path) -> None:
    command = start(
        *("bash", "test.sh", f"trainer.default_local_dir={tmp_path}", "recipe=quickstart"),
        CUDA_VISIBLE_DEVICES="",
    )
    assert command.finish() == 2, command.output
    assert "no checkpoint to score" in command.output
    command = start("bash", "test.sh", DATASETS="nq,nowhere", RECIPE="quickstart")
    assert command.finish() == 2
    assert "qa_test_gen.py --data_sources nq,nowhere" in command.output
