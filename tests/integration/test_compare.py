"""Baselines over the embedded pool's real HTTP server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from router_r1.evaluation.baselines.base import Baseline, SilentPoolError
from router_r1.evaluation.baselines.fixed import HopRouter, SingleLLM
from router_r1.evaluation.baselines.retrieval import RetrievalLoop
from router_r1.evaluation.benchmark import Question, world_questions
from router_r1.evaluation.compare import answer_all, main
from router_r1.evaluation.oracle_gap import ORACLE
from router_r1.pool.client import PoolClient
from router_r1.pool.config import PoolConfig
from router_r1.pool.hosted.retrieval import retrieval_endpoint
from router_r1.pool.loading import load_pool
from router_r1.pool.tools.bm25 import BM25
from router_r1.world.config import WorldConfig
from router_r1.world.dataset import write_world
from router_r1.world.oracle import Oracle
from router_r1.world.simulated_llm import World
from tests.integration.faults import fault
from verl.trainer.evaluation.records import EvaluationRecord


@pytest.fixture(scope="module")
def questions(world: World) -> list[Question]:
    return world_questions(world.knowledge, "test")[:40]


def answered(
    pool: PoolConfig, baselines: list[Baseline], questions: list[Question]
) -> tuple[list[list[EvaluationRecord]], float]:
    """Records of each baseline, and what was spent."""

    async def run() -> tuple[list[list[EvaluationRecord]], float]:
        client = PoolClient(pool, once=True)
        try:
            records = [await answer_all(b, questions, client.ask) for b in baselines]
        finally:
            await client.close()
        return records, client.ledger.spent_usd

    return asyncio.run(run())


def test_the_comparison_is_ordered_as_theory_says(served_pool: PoolConfig, tmp_path: Path) -> None:
    assert served_pool.api_base is not None
    arguments = ["--api_base", served_pool.api_base, "--output", str(tmp_path)]
    main([*arguments, "--train_questions", "400"])
    content = json.loads((tmp_path / "comparison.json").read_text())
    rows = {row["name"]: row for row in content["rows"]}
    em = {name: row["em"] for name, row in rows.items()}
    best_single = max(row["em"] for row in content["rows"] if row["kind"] == "single")
    error = 0.05  # twice the standard error of a mean over 2 x ~200 questions
    assert em["random"] <= best_single + error
    learned = {name: row["em"] for name, row in rows.items() if row["kind"] == "learned"}
    assert {"kNN", "MLP", "graph"} <= set(learned)
    assert min(learned.values()) >= best_single - error
    assert max(learned.values()) <= em["single-shot oracle (expected)"] + error
    assert max(learned.values()) < em["oracle"] - 0.2
    assert em["oracle"] == pytest.approx(em["oracle (expected)"], abs=error)
    assert rows["oracle"]["dollars"] == pytest.approx(rows["oracle (expected)"]["dollars"], rel=0.1)
    carrots = [row["cost"] for row in content["rows"] if row["name"].startswith("CARROT")]
    assert carrots == sorted(carrots, reverse=True)
    # A single shot at a two-hop question needs both hops from one LLM.
    twohop = {name: row["by_source"]["world_twohop"]["em"] for name, row in rows.items()}
    assert max(twohop[name] for name in learned) < 0.4 < twohop["oracle"]
    assert rows["fusion of 3"]["calls"] == pytest.approx(3.0)
    # In hindsight no router that asks one LLM does better than the best one of each question.
    best = rows[ORACLE]
    assert best["oracle_gap"] == 0.0
    for row in content["rows"]:
        if row["kind"] in ("single", "learned") and row["em_low"] is not None:
            assert row["em"] <= best["em"]
            assert row["oracle_gap"] == pytest.approx(1 - row["em"] / best["em"])
    assert rows["oracle"]["oracle_gap"] < 0, "it asks for each hop on its own"
    measured = [row for row in content["rows"] if row["em_low"] is not None]
    assert all(row["latency_s"] > 0 and row["latency_p95_s"] > 0 for row in measured)
    assert rows["oracle (expected)"]["latency_s"] is None
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_costs_add_up_from_the_calls(
    served_pool: PoolConfig, world: World, questions: list[Question]
) -> None:
    oracle = Oracle(world, served_pool.prices(), world.knowledge.questions("test"))
    hops = HopRouter("oracle", world.knowledge, lambda domains: oracle.best_route(domains, 0.0))
    (single, again, routed), spent = answered(
        served_pool, [SingleLLM("Draco"), SingleLLM("Draco"), hops], questions
    )
    assert [record.scores for record in again] == [record.scores for record in single]
    calls = [call for record in [*single, *again, *routed] for call in record.trajectory.calls]
    dollars_of = {(call.result.llm, call.query): call.result.dollars for call in calls}
    assert spent == pytest.approx(sum(dollars_of.values()))
    assert sum(not call.result.replayed for call in calls) == len(dollars_of) < len(calls)
    for record in [*single, *routed]:
        cost = dollars = 0.0
        for call in record.trajectory.calls:
            llm = served_pool.resolve(call.result.llm)
            reply = world.reply(call.result.llm, call.query)
            assert llm is not None
            assert call.result.text == reply.text
            cost += reply.completion_tokens * llm.completion_price
            dollars += reply.completion_tokens * llm.completion_price / 1e6
            dollars += reply.prompt_tokens * llm.prompt_price / 1e6
        assert record.scores["cost"] == pytest.approx(cost)
        assert record.scores["dollars"] == pytest.approx(dollars)
        assert record.scores["route_cnt"] == len(record.trajectory.calls)


def test_the_pool_file_alone_adds_retrieval(
    world: World, questions: list[Question], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"

    async def run() -> list[EvaluationRecord]:
        index = BM25(world.knowledge.documents())
        async with retrieval_endpoint(index, passages=2) as url:
            path.write_text(
                "name: mine\nllms:\n"
                f"  - {{name: Search, model: bm25, base_url: {url}, completion_price: 0.1}}\n"
            )
            client = PoolClient(load_pool(path))
            try:
                await client.check()
                return await answer_all(RetrievalLoop("Search"), questions, client.ask)
            finally:
                await client.close()

    records = asyncio.run(run())
    assert 0.2 < sum(record.scores["em"] for record in records) / len(records) < 0.7
    assert max(record.scores["num_turns"] for record in records) == 2
    for record in records:
        words = sum(len((call.result.text or "").split()) for call in record.trajectory.calls)
        assert record.scores["cost"] == pytest.approx(words * 0.1)


def test_calls_that_fail_are_counted_and_cost_nothing(
    served_pool: PoolConfig, questions: list[Question]
) -> None:
    pool = replace(served_pool, max_retries=0, breaker_failures=1000)
    with fault(pool, "status_500", rate=0.5, seed=3):
        (records,), _ = answered(pool, [SingleLLM("Draco")], questions)
    failed = [record for record in records if record.status == "failed"]
    assert 5 < len(failed) < 35
    assert len(records) == len(questions)
    for record in failed:
        assert (record.scores["cost"], record.scores["em"]) == (0.0, 0.0)
        assert (record.scores["failed_calls"], record.scores["route_cnt"]) == (1.0, 0.0)


def test_real_files_are_compared_alike_and_a_silent_pool_is_named(
    served_pool: PoolConfig, world: World, tmp_path: Path
) -> None:
    """The world's own parquet files stand in for real data."""
    small = World(WorldConfig(train_questions=60, validation_questions=30, test_questions=30))
    assert small.knowledge.facts == world.knowledge.facts
    paths = write_world(small, served_pool, tmp_path)
    assert served_pool.api_base is not None
    arguments = [
        *("--train_files", str(paths["train"]), "--test_files", str(paths["test"])),
        *("--pool", "embedded", "--api_base", served_pool.api_base),
        *("--output", str(tmp_path / "eval"), "--baselines", "single,knn"),
    ]
    main(arguments)
    rows = json.loads((tmp_path / "eval" / "comparison.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["single"] * 6 + ["learned", "oracle"]
    with fault(served_pool, "status_500"), pytest.raises(SilentPoolError, match="server_error"):
        main(arguments)
