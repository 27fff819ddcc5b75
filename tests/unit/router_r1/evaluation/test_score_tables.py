"""Scores of routed trajectories, and the tables that show them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from router_r1.evaluation.frames import RoutedRecord
from router_r1.evaluation.published import published_figures
from router_r1.evaluation.score_tables import print_results
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.reward.manager import RewardConfig, RoutingRewardFunction
from tests.routed import call, routed
from verl.trainer.evaluation.records import EvaluationRecord, RecordLog, read_parquet
from verl.trainer.evaluation.score import RESULTS, score_folder, score_records, scored_file
from verl.utils.checkpoints import load_reward_state


def answered(
    row: int, answer: str, pool: PoolConfig, source: str = "a", cost: float = 30.0
) -> RoutedRecord:
    """A well-formed trajectory with one call."""
    llm = pool.llms[0].name
    turns = (
        f"<think> x</think><search> {llm}: who is {row}</search>",
        f"<think> y</think><answer> {answer}</answer>",
    )
    return EvaluationRecord(
        uid=f"{source}/{row}",
        sample_index=0,
        data_source=source,
        prompt=f"who is {row}?",
        ground_truth=[f"answer {row}", "b"],
        status="answered",
        trajectory=routed(turns, [call(llm, "z", cost)]),
    )


def test_scoring_is_the_rewards_and_counts_every_record(
    tmp_path: Path, embedded_pool: PoolConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.0)
    records = [
        answered(2, "answer 2", embedded_pool, "b"),
        answered(1, "wrong", embedded_pool),
        answered(0, "answer 0", embedded_pool),
    ]
    log = RecordLog(tmp_path / "log.jsonl")
    for one in records:
        log.append(one)
    log.close()
    facts = {"model": "m", "pool": "embedded"}
    summaries = score_folder(
        tmp_path / "log.jsonl", RoutedTrajectory, tmp_path, reward, facts, "em"
    )
    scored = read_parquet(scored_file(tmp_path, RoutedTrajectory), RoutedTrajectory)
    assert [r.uid for r in scored] == ["a/0", "a/1", "b/2"]
    assert [r.scores["em"] for r in scored] == [1.0, 0.0, 1.0]
    assert [r.scores["reward"] for r in scored] == [1.0, 0.0, 1.0]
    results = json.loads((tmp_path / RESULTS).read_text())
    assert results["model"] == "m"
    assert [s["data_source"] for s in results["summaries"]] == ["a", "b", "all"]
    assert results["summaries"][-1]["estimates"]["em"]["mean"] == summaries[-1].estimates["em"].mean
    print_results(tmp_path)
    shown = capsys.readouterr().out
    for words in ("EM", "average", "0.750", "Format failures", "95%"):
        assert words in shown


def test_the_table_of_the_papers_benchmarks_is_whole_at_the_width_of_a_log(
    tmp_path: Path, embedded_pool: PoolConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.0)
    log = RecordLog(tmp_path / "log.jsonl")
    published = published_figures().filter(regex="^em ")
    benchmarks = [column.removeprefix("em ") for column in published]
    for source in benchmarks:
        for row in range(4):
            for sample in range(4):
                answer = f"answer {row}" if (row + sample) % 3 else "wrong"
                one = answered(row, answer, embedded_pool, source)
                log.append(replace(one, sample_index=sample))
    log.close()
    score_folder(
        tmp_path / "log.jsonl",
        RoutedTrajectory,
        tmp_path,
        reward,
        {"model": "m", "pool": "embedded"},
        "em",
    )
    print_results(tmp_path)
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= 120
    assert "…" not in shown
    for words in (
        *benchmarks,
        "avg@4",
        "pass@4",
        "4 questions \N{MULTIPLICATION SIGN} 4",
        "28 questions",
    ):
        assert words in shown
    for summary in json.loads((tmp_path / RESULTS).read_text())["summaries"]:
        for name in ("em", "f1", "pass@4"):
            estimate = summary["estimates"][name]
            assert f"{estimate['low']:.3f}–{estimate['high']:.3f}" in shown  # noqa: RUF001


def test_the_cost_window_travels_with_the_checkpoint(
    tmp_path: Path, embedded_pool: PoolConfig
) -> None:
    """Evaluation sees the costs that training saw, and leaves them as they are."""
    trained = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.9)
    dear = [answered(i, f"answer {i}", embedded_pool, cost=float(i * i)) for i in range(20)]
    score_records(dear, trained)  # validation: no window yet
    assert trained.state_dict()["normalizer"]["roots"] == []
    for one in dear:
        trained._normalizer(one.trajectory.cost)
    actor = tmp_path / "global_step_5" / "actor"
    actor.mkdir(parents=True)
    (actor.parent / "reward.json").write_text(json.dumps(trained.state_dict()), "utf-8")
    fresh = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.9)
    unaware = [r.scores["cost_reward"] for r in score_records(dear, fresh)]
    load_reward_state(actor, fresh)
    aware = [r.scores["cost_reward"] for r in score_records(dear, fresh)]
    assert set(unaware) == {0.5}
    assert aware == [r.scores["cost_reward"] for r in score_records(dear, trained)]
    assert aware[0] == 1.0
    assert aware[-1] == 0.0
