"""Questions that were offered LLMs which training held out have a line of their own."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from router_r1.evaluation.report.page import write_report
from router_r1.evaluation.score_tables import print_results, unseen_summary
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.offer import OfferedNames
from router_r1.task import RoutingTask
from tests.routed import routed
from verl.trainer.evaluation.records import EvaluationRecord, write_parquet
from verl.trainer.evaluation.score import RESULTS, scored_file
from verl.trainer.launch import load_task_config

LINE = "LLMs never seen in training"


def record(row: int, em: float, *offered: str) -> EvaluationRecord[RoutedTrajectory]:
    names = OfferedNames(tuple((f"name of {own}", own) for own in offered)) if offered else None
    trajectory = replace(routed(["<answer> x</answer>"]), offered=names)
    scores = {"em": em, "f1": em, "reward": em, "cost": 1.0}
    return EvaluationRecord(
        uid=f"test/{row}",
        sample_index=0,
        data_source="world",
        prompt=f"Who is {row}?",
        ground_truth=["x"],
        status="answered",
        trajectory=trajectory,
        scores=scores,
    )


RECORDS = [
    record(0, 1.0, "Orion", "Pyxis"),
    record(1, 0.0, "Pyxis", "Regor"),
    record(2, 1.0, "Orion", "Vela"),
    record(3, 1.0),
]


def test_a_question_counts_if_one_of_its_llms_was_held_out() -> None:
    summary = unseen_summary(RECORDS, ["Pyxis", "Regor"])
    assert summary is not None
    assert (summary.prompts, summary.estimates["em"].mean) == (2, 0.5)
    assert unseen_summary(RECORDS, ["Taurus"]) is None
    assert unseen_summary(RECORDS, []) is None


@pytest.mark.parametrize("never_trained", [["Pyxis"], []])
def test_table_and_page_have_the_line_where_there_are_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], never_trained: list[str]
) -> None:
    write_parquet(scored_file(tmp_path, RoutedTrajectory), RECORDS)
    estimate = {"mean": 0.75, "low": 0.5, "high": 1.0}
    summary = {"data_source": "world", "questions": 4, "samples": 4, "estimates": {"em": estimate}}
    facts = {"model": "m", "pool": "p", "never_trained": never_trained, "summaries": [summary] * 2}
    (tmp_path / RESULTS).write_text(json.dumps(facts))
    print_results(tmp_path)
    shown = " ".join(capsys.readouterr().out.split())
    assert (LINE in shown) == (LINE in write_report(tmp_path).read_text()) == bool(never_trained)
    assert ("2 questions" in shown) == bool(never_trained)


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(json.loads(json.dumps(content))))


def test_what_was_held_out_is_known_from_the_runs_own_configuration(tmp_path: Path) -> None:
    def facts(*overrides: str) -> object:
        task_class, config = load_task_config(
            ["recipe=quickstart_pools", f"trainer.default_local_dir={tmp_path}", *overrides]
        )
        task = task_class(config)
        assert isinstance(task, RoutingTask)
        return task.reports().facts()["never_trained"]

    offers_all = "offer.held_out=[]"
    assert facts(offers_all) == [], "there is no run"
    _, trained = load_task_config(["recipe=quickstart_pools"])
    write_yaml(tmp_path / "config.yaml", asdict(trained))
    assert facts(offers_all) == ["Pyxis", "Regor"]
    assert facts() == [], "they are held out here as well"
    assert facts(offers_all, "evaluation.model_path=Qwen/Qwen2.5-3B") == [], "of no run"
    actor = tmp_path / "other/checkpoints/global_step_3/actor"
    actor.mkdir(parents=True)
    _, trained = load_task_config(["recipe=quickstart_pools", offers_all])
    write_yaml(tmp_path / "other/config.yaml", asdict(trained))
    assert facts(offers_all, f"evaluation.model_path={actor}") == [], "its run offered all"
