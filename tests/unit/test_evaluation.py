from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_r1.config import RouterConfig
from router_r1.evaluation.published import BENCHMARKS
from router_r1.evaluation.results import print_results
from router_r1.pool.config import PoolConfig
from router_r1.reward.manager import RewardConfig, RoutingRewardFunction
from verl.config.validation import to_dataclass
from verl.errors import UserError
from verl.interfaces import RolloutOptions, RolloutRequest, RolloutSource
from verl.trainer.evaluation.generate import TRAJECTORIES, generate, prepare_folder
from verl.trainer.evaluation.records import (
    EvaluationRecord,
    RecordError,
    RecordLog,
    keys,
    read_log,
    read_parquet,
    write_parquet,
)
from verl.trainer.evaluation.score import QUESTIONS, RESULTS, score_folder, score_records
from verl.trainer.evaluation.summary import summarise
from verl.trainer.launch import compose_config
from verl.trajectory import Trajectory, TrajectoryStatus
from verl.utils.checkpoints import load_reward_state, newest_actor, save_reward_state


def record(row: int = 0, sample: int = 0, source: str = "a", **scores: float) -> EvaluationRecord:
    return EvaluationRecord(
        uid=f"{source}/{row}",
        sample_index=sample,
        data_source=source,
        question=f"who is {row}?",
        ground_truth=[f"answer {row}", "b"],
        status="answered",
        extras={"response_text": "<think>é\n</think>", "calls": [{"llm": "Atlas", "cost": 1.5}]},
        scores=scores,
    )


def answered(row: int, answer: str, pool: PoolConfig, source: str = "a") -> EvaluationRecord:
    """A well-formed trajectory with one call."""
    llm = pool.llms[0]
    call = {"llm": llm.name, "outcome": "ok", "cost": 30.0, "completion_tokens": 30}
    policy = f"<think> x</think><search> {llm.name}: who is {row}</search>"
    answer = f"<think> y</think><answer> {answer}</answer>"
    extras = {
        "policy_text": policy + answer,
        "response_text": f"{policy}\n\n<information>z</information>\n\n{answer}",
        "num_turns": 2,
        "finished": 1,
        "valid_actions": 2,
        "routed_calls": 1,
        "failed_calls": 0,
        "cost": 30.0,
        "dollars": 3e-5,
        "calls": [call],
    }
    return replace(record(row, source=source), extras=extras)


def test_a_log_keeps_every_record(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    assert read_log(path) == []
    for first in (0, 3):  # a second session appends
        log = RecordLog(path)
        for row in range(first, first + 3):
            log.append(record(row))
        log.close()
    assert read_log(path) == [record(row) for row in range(6)]
    assert keys(read_log(path)) == {(f"a/{row}", 0) for row in range(6)}


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_line_cut_by_a_crash_is_dropped_and_written_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log.jsonl"
    log = RecordLog(path)
    for row in range(3):
        log.append(record(row))
    log.close()
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_log(path) == [record(0), record(1)]
    log = RecordLog(path)
    log.append(record(2))
    log.close()
    assert read_log(path) == [record(row) for row in range(3)]


def test_a_log_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"uid": "x"}\n')
    with pytest.raises(RecordError, match="line 1 is no evaluation record"):
        read_log(path)


def test_parquet_gives_back_what_went_in(tmp_path: Path) -> None:
    records = [record(0, em=1.0), record(1, f1=0.5, reward=-1.0), record(2)]
    write_parquet(tmp_path / "q.parquet", records)
    assert read_parquet(tmp_path / "q.parquet") == records
    with pytest.raises(RecordError, match="no such file"):
        read_parquet(tmp_path / "gone.parquet")
    (tmp_path / "bad.parquet").write_text("x")
    with pytest.raises(RecordError, match="no file of evaluation records"):
        read_parquet(tmp_path / "bad.parquet")


def test_means_are_over_questions_and_the_average_over_datasets() -> None:
    """A question sampled four times weighs as much as one sampled once."""
    records = [
        *(record(0, k, em=float(k == 0)) for k in range(4)),
        record(1, em=1.0),
        record(0, source="b", em=0.0),
    ]
    a, b, everything = summarise(records)
    assert (a.data_source, a.questions, a.samples) == ("a", 2, 5)
    assert a.estimates["em"].mean == pytest.approx((0.25 + 1.0) / 2)
    assert a.estimates["pass@4"].mean == 1.0
    assert a.estimates["avg@4"] == a.estimates["em"]
    assert (b.data_source, b.estimates["em"].mean) == ("b", 0.0)
    assert (everything.data_source, everything.questions) == ("all", 3)
    assert everything.estimates["em"].mean == pytest.approx(a.estimates["em"].mean / 2)
    assert summarise(records) == summarise(records), "the same intervals each time"
    with pytest.raises(ValueError, match="no records"):
        summarise([])


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """95% of the intervals of 60 fair coins hold 0.5, within four standard errors."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(120):
        records = [record(i, em=float(x)) for i, x in enumerate(rng.integers(0, 2, 60))]
        estimate = summarise(records)[0].estimates["em"]
        covered += estimate.low <= 0.5 <= estimate.high
    assert covered >= 120 * (0.95 - 4 * 0.02)
    assert estimate.high - estimate.low == pytest.approx(4 * 0.5 / 60**0.5, rel=0.2)


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_an_interval_holds_its_mean(values: list[float]) -> None:
    estimate = summarise([record(i, cost=x) for i, x in enumerate(values)])[0].estimates["cost"]
    assert estimate.mean == pytest.approx(float(np.mean(values)))
    assert min(values) - 1e-9 <= estimate.low <= estimate.high <= max(values) + 1e-9


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
    summaries = score_folder(tmp_path / "log.jsonl", tmp_path, reward, facts)
    scored = read_parquet(tmp_path / QUESTIONS)
    assert [r.uid for r in scored] == ["a/0", "a/1", "b/2"]
    assert [r.scores["em"] for r in scored] == [1.0, 0.0, 1.0]
    assert [r.scores["reward"] for r in scored] == [1.0, 0.0, 1.0]
    results = json.loads((tmp_path / RESULTS).read_text())
    assert results["model"] == "m"
    assert [s["data_source"] for s in results["summaries"]] == ["a", "b", "all"]
    assert results["summaries"][-1]["estimates"]["em"]["mean"] == summaries[-1].estimates["em"].mean
    print_results(tmp_path)
    shown = capsys.readouterr().out
    for words in ("EM", "average", "0.750", "bad", "95%"):
        assert words in shown


def test_the_table_of_the_papers_benchmarks_is_whole_at_the_width_of_a_log(
    tmp_path: Path, embedded_pool: PoolConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.0)
    log = RecordLog(tmp_path / "log.jsonl")
    for source in BENCHMARKS:
        for row in range(4):
            for sample in range(4):
                answer = f"answer {row}" if (row + sample) % 3 else "wrong"
                one = answered(row, answer, embedded_pool, source)
                log.append(replace(one, sample_index=sample))
    log.close()
    score_folder(tmp_path / "log.jsonl", tmp_path, reward, {"model": "m", "pool": "embedded"})
    print_results(tmp_path)
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= 120
    assert "…" not in shown
    for words in (*BENCHMARKS, "avg@4", "pass@4", "4 questions", "28 questions"):
        assert words in shown
    for summary in json.loads((tmp_path / RESULTS).read_text())["summaries"]:
        for name in ("em", "f1", "pass@4"):
            estimate = summary["estimates"][name]
            assert f"{estimate['low']:.3f}–{estimate['high']:.3f}" in shown  # noqa: RUF001


def test_fewer_questions_and_samples_can_be_scored_than_are_there(
    tmp_path: Path, embedded_pool: PoolConfig
) -> None:
    reward = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.0)
    log = RecordLog(tmp_path / "log.jsonl")
    for row in range(4):
        for sample in range(3):
            one = answered(row, f"answer {row}", embedded_pool)
            log.append(replace(one, sample_index=sample))
    log.close()

    def scored(**wanted: int) -> list[tuple[str, int]]:
        score_folder(tmp_path / "log.jsonl", tmp_path, reward, {}, **wanted)
        return [record.key for record in read_parquet(tmp_path / QUESTIONS)]

    assert len(scored()) == 12
    assert scored(limit=2, n_samples=1) == [("a/0", 0), ("a/1", 0)]
    assert scored(n_samples=2)[:3] == [("a/0", 0), ("a/0", 1), ("a/1", 0)]


def test_nothing_to_score_says_what_to_do(tmp_path: Path, embedded_pool: PoolConfig) -> None:
    reward = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.0)
    with pytest.raises(RecordError, match="main_generation first"):
        score_folder(tmp_path / "gone.jsonl", tmp_path, reward, {})


def test_the_cost_window_travels_with_the_checkpoint(
    tmp_path: Path, embedded_pool: PoolConfig
) -> None:
    """Evaluation sees the costs that training saw, and leaves them as they are."""
    trained = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.9)
    dear = [answered(i, f"answer {i}", embedded_pool) for i in range(20)]
    for i, one in enumerate(dear):
        one.extras["cost"] = float(i * i)
    score_records(dear, trained)  # validation: no window yet
    assert trained.state_dict()["normalizer"]["roots"] == []
    for one in dear:
        trained._normalizer(one.extras["cost"])
    actor = tmp_path / "global_step_5" / "actor"
    actor.mkdir(parents=True)
    save_reward_state(actor.parent, trained)
    fresh = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.9)
    unaware = [r.scores["cost_reward"] for r in score_records(dear, fresh)]
    load_reward_state(actor, fresh)
    aware = [r.scores["cost_reward"] for r in score_records(dear, fresh)]
    assert set(unaware) == {0.5}
    assert aware == [r.scores["cost_reward"] for r in score_records(dear, trained)]
    assert aware[0] == 1.0
    assert aware[-1] == 0.0


def test_the_newest_checkpoint_is_scored(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train first"):
        newest_actor(tmp_path)
    for step in (5, 40, 100):
        actor = tmp_path / "checkpoints" / f"global_step_{step}" / "actor"
        actor.mkdir(parents=True)
        if step != 100:  # the last was cut off
            (actor / "config.json").write_text("{}")
    assert newest_actor(tmp_path).parent.name == "global_step_40"


@pytest.mark.parametrize(("temperature", "starts_anew"), [(0.0, False), (1.0, True)])
def test_trajectories_of_another_seed_are_kept_apart_where_tokens_are_sampled(
    tmp_path: Path, temperature: float, starts_anew: bool
) -> None:
    for seed in (1, 2):
        overrides = (
            *("recipe=quickstart", f"evaluation.folder={tmp_path}", f"trainer.seed={seed}"),
            f"actor_rollout_ref.rollout.val.temperature={temperature}",
        )
        config = to_dataclass(compose_config("ppo_trainer", overrides), RouterConfig)
        prepare_folder(config, Path("model"))
        (tmp_path / TRAJECTORIES).touch()
    assert (tmp_path / f"replaced_{TRAJECTORIES}").exists() is starts_anew


def test_trajectories_that_infrastructure_broke_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"data_source": "nq", "reward_model": {"ground_truth": {"target": ["x"]}}}
    chat = [{"role": "user", "content": "Who?"}]
    requests = [RolloutRequest(f"nq/{i}", chat, row=row) for i in range(3)]

    class Source:
        def rollout(
            self,
            requests: Sequence[RolloutRequest],
            _: RolloutOptions,
            on_finished: Callable[[Trajectory], None],
        ) -> list[Trajectory]:
            ended = [
                Trajectory(r.uid, [], TrajectoryStatus.ANSWERED, excluded=r.uid != "nq/0")
                for r in requests
            ]
            for trajectory in ended:
                on_finished(trajectory)
            return ended

    source = cast(RolloutSource, Source())
    assert generate(requests, source, RolloutOptions(temperature=0.0), tmp_path) == 3
    assert "in 2 of 3 trajectories something else than the policy failed" in caplog.text
    caplog.clear()
    assert generate(requests, source, RolloutOptions(temperature=0.0), tmp_path) == 0
    assert "something else" not in caplog.text
