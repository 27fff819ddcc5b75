"""``python -m router_r1.evaluation.compare``: routers and baselines on the same questions.

Guarantees: every row is about the same questions and counts costs alike; what one baseline learns
from are training questions only; ``comparison.json`` and ``comparison.png`` are whole or absent.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from router_r1.evaluation.answer import Answer, Ask, limited, to_record
from router_r1.evaluation.baselines.base import Baseline, collect_training_set
from router_r1.evaluation.baselines.embedding import load_embedder
from router_r1.evaluation.baselines.fixed import HopRouter, SingleLLM
from router_r1.evaluation.baselines.registry import Setting, make_baselines
from router_r1.evaluation.benchmark import Benchmark, Question, kind_of, load_benchmark, read_saved
from router_r1.evaluation.charts import comparison_png
from router_r1.evaluation.compare_options import parse_arguments
from router_r1.evaluation.comparison import (
    Comparison,
    Row,
    measured_row,
    sweep_points,
    write_comparison,
)
from router_r1.evaluation.comparison_tables import comparison_tables
from router_r1.evaluation.expected import expected_rows
from router_r1.evaluation.oracle_gap import oracle_row, with_oracle_gaps
from router_r1.evaluation.recorded.scoring import compare_recorded
from router_r1.evaluation.weighing import stated_weighing
from router_r1.pool.client import PoolClient
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.hosted.retrieval import MODEL, retrieval_endpoint
from router_r1.pool.outcome import CallResult
from router_r1.pool.tools.bm25 import BM25
from router_r1.world.oracle import Oracle
from router_r1.world.simulated_pool import reachable_pool
from verl.config.validation import ConfigError
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.launch import run_as_command
from verl.utils.console import console, progress_bar

logger = logging.getLogger(__name__)

_WORLD_RETRIEVER = LLMConfig("Search", MODEL, completion_price=0.02, in_prompt=False)


async def run_baselines(
    benchmark: Benchmark, args: argparse.Namespace
) -> tuple[list[Row], Row | None]:
    """Collects the training outcomes, trains, and lets every baseline answer the test questions.

    Returns:
        A row for each baseline, and the oracle's of one LLM a question; None unless every LLM is
        one of the baselines.

    Raises:
        ConfigError: for baselines or a retriever that are not to be had.
        SilentPoolError: if the pool answers nothing.
    """
    async with AsyncExitStack() as stack:
        pool, retriever = await _start_pool(stack, benchmark, args.retriever)
        setting = _setting(benchmark, pool, retriever, args)
        baselines = make_baselines(args.baselines, setting)
        # However many baselines ask it, an LLM gets a query once; each is charged as if alone.
        client = PoolClient(pool, once=True)
        stack.push_async_callback(client.close)
        ask = limited(client.ask)
        await client.check()
        if learners := [baseline for baseline in baselines if baseline.learns]:
            await _train(learners, benchmark, setting, ask, args.embedder)
        measured = await _measure(baselines, benchmark.test, ask, args.normalization)
    rows = [measured_row(baseline.name, baseline.kind, of_one) for baseline, of_one in measured]
    singles = {b.llm: of_one for b, of_one in measured if isinstance(b, SingleLLM)}
    everyone = set(setting.names) <= singles.keys()
    return rows, oracle_row(list(singles.values())) if everyone else None


async def _start_pool(
    stack: AsyncExitStack, benchmark: Benchmark, retriever: str | None
) -> tuple[PoolConfig, str | None]:
    """The pool with its endpoints, which end with ``stack``, and the name of its retriever.

    A simulated pool gets its server; the embedded world also gets a retriever over its documents.
    """
    world = benchmark.world
    config = None if world is None else world.config
    pool = stack.enter_context(reachable_pool(benchmark.pool, config))
    if world is None or retriever is not None:
        return pool, retriever
    index = BM25(world.knowledge.documents())
    url = await stack.enter_async_context(retrieval_endpoint(index, passages=1))
    member = replace(_WORLD_RETRIEVER, base_url=url)
    return replace(pool, llms=[*pool.llms, member]), member.name


def _setting(
    benchmark: Benchmark, pool: PoolConfig, retriever: str | None, args: argparse.Namespace
) -> Setting:
    world, retriever = benchmark.world, _member(pool, "--retriever", retriever)
    oracles = []
    if world is not None:
        weighing = stated_weighing([point.folder for point in args.sweep], pool)
        oracle = Oracle(world, pool.prices(), benchmark.world_test, weighing)
        for coe in sorted({0.0, *(float(point.label) for point in args.sweep)}):
            name = f"oracle at cost_coe {coe:g}" if coe else "oracle"
            choose = partial(oracle.best_route, cost_coe=coe)
            oracles.append(HopRouter(name, world.knowledge, choose))
    return Setting(
        prices={llm.name: llm.completion_price for llm in pool.offered if llm.name != retriever},
        seed=args.seed,
        cost_weights=args.carrot_lambda,
        retriever=retriever,
        reader=_member(pool, "--reader", args.reader),
        oracles=oracles,
    )


def _member(pool: PoolConfig, option: str, name: str | None) -> str | None:
    if name is None:
        return None
    if llm := pool.resolve(name):
        return llm.name
    known = ", ".join(llm.name for llm in pool.llms)
    raise ConfigError(f"{option} {name!r} is not in pool {pool.name!r}, which has {known}")


async def _train(
    learners: Sequence[Baseline], benchmark: Benchmark, setting: Setting, ask: Ask, embedder: str
) -> None:
    questions, names, vectors = benchmark.train, setting.names, load_embedder(embedder)
    with progress_bar() as progress:
        task = progress.add_task("asking training questions", total=len(questions) * len(names))

        async def ask_and_count(llm: str, query: str) -> CallResult:
            result = await ask(llm, query)
            progress.advance(task)
            return result

        train = await collect_training_set(questions, names, ask_and_count, vectors)
        for baseline in progress.track(learners, description="training"):
            baseline.fit(train)
    logger.info("%d baselines learned from %d questions", len(learners), len(questions))


async def _measure(
    baselines: Sequence[Baseline], questions: Sequence[Question], ask: Ask, normalization: str
) -> list[tuple[Baseline, list[EvaluationRecord[Answer]]]]:
    """Each baseline with its record of each question, in order."""
    measured = []
    with progress_bar() as progress:
        task = progress.add_task("", total=len(baselines) * len(questions))
        for baseline in baselines:
            progress.update(task, description=f"answering: {baseline.name}")
            records = await answer_all(
                baseline, questions, ask, lambda: progress.advance(task), normalization
            )
            if failed := sum(record.scores["failed_calls"] for record in records):
                logger.warning("%s: %d calls brought no reply", baseline.name, failed)
            measured.append((baseline, records))
    return measured


async def answer_all(
    baseline: Baseline,
    questions: Sequence[Question],
    ask: Ask,
    on_answer: Callable[[], None] = lambda: None,
    normalization: str = "paper",
) -> list[EvaluationRecord[Answer]]:
    """One scored record per question, in order."""

    async def one(question: Question) -> EvaluationRecord[Answer]:
        answer = await baseline.answer(question.prompt, ask)
        on_answer()
        return to_record(question, answer, normalization)

    return list(await asyncio.gather(*(one(question) for question in questions)))


def compare(args: argparse.Namespace) -> Comparison:
    """Everything of a comparison but showing it.

    Raises:
        UserError: for files, a pool or options that cannot be used.
    """
    benchmark = load_benchmark(args)
    saved, swept = (
        [(s.label, read_saved(s.folder, benchmark.test, args.normalization)) for s in evaluations]
        for evaluations in (args.router, args.sweep)
    )
    rows, oracle = asyncio.run(run_baselines(benchmark, args))
    rows += [measured_row(label, kind_of(label), records) for label, records in saved]
    if benchmark.world is not None:
        rows += expected_rows(benchmark.world, benchmark.pool, benchmark.world_test)
    points = sweep_points([(float(label), records) for label, records in swept])
    comparison = Comparison(benchmark.title, rows, points)
    return comparison if oracle is None else with_oracle_gaps(comparison, oracle)


def main(arguments: list[str]) -> None:
    """Compares, shows the tables, writes the file and the chart."""
    args = parse_arguments(arguments)
    comparison = compare_recorded(args) if args.outcomes else compare(args)
    for table in comparison_tables(comparison):
        console.print(table.on_terminal())
    write_comparison(args.output / "comparison.json", comparison)
    comparison_png(comparison, args.output / "comparison.png")
    console.print(f"wrote comparison.json and comparison.png to {args.output}/", highlight=False)


if __name__ == "__main__":
    run_as_command(main)
