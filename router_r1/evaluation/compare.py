"""``python -m router_r1.evaluation.compare``: routers and baselines on the same questions.

Guarantees: every row is about the same questions and counts costs alike; what one baseline learns
from are training questions only; ``comparison.json`` and ``comparison.png`` are whole or absent.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from router_r1.evaluation.baselines.contest import Ask, Contestant
from router_r1.evaluation.baselines.embedding import load_embedder
from router_r1.evaluation.baselines.registry import Setting, make_baselines
from router_r1.evaluation.comparison.arguments import SavedEvaluation, parse_arguments
from router_r1.evaluation.comparison.asking import collect_outcomes, limited
from router_r1.evaluation.comparison.expected import per_hop_rows, single_shot_row
from router_r1.evaluation.comparison.judging import judge
from router_r1.evaluation.comparison.plot import plot_comparison
from router_r1.evaluation.comparison.questions import (
    Question,
    read_questions,
    sample,
    world_questions,
)
from router_r1.evaluation.comparison.rows import (
    Comparison,
    Row,
    measured_row,
    write_comparison,
)
from router_r1.evaluation.comparison.saved import kind_of, read_saved
from router_r1.evaluation.comparison.sweep import sweep_points
from router_r1.evaluation.comparison.table import tables
from router_r1.pool.client import PoolClient
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.hosted.bm25 import BM25
from router_r1.pool.hosted.retrieval import MODEL, retrieval_endpoint
from router_r1.pool.loading import load_pool
from router_r1.world.config import WorldConfig
from router_r1.world.corpus import world_corpus
from router_r1.world.knowledge import Question as WorldQuestion
from router_r1.world.oracle import Oracle
from router_r1.world.simulated_llm import World
from router_r1.world.simulated_pool import simulated_pool
from verl.config.validation import ConfigError
from verl.trainer.launch import run_as_command
from verl.utils.console import console, progress_bar

logger = logging.getLogger(__name__)

WORLD_RETRIEVER = "Search"
_RETRIEVER_PRICE = 0.02
_FEWEST_TO_LEARN_FROM = 20


@dataclass(frozen=True)
class Benchmark:
    """What a comparison is about; ``world`` is None on real data."""

    title: str
    pool: PoolConfig
    train: list[Question]
    test: list[Question]
    world: World | None


def load_benchmark(args: argparse.Namespace) -> Benchmark:
    """The embedded world, or parquet files.

    Raises:
        UserError: for files or a pool that cannot be used, or too few questions to learn from.
    """
    pool = load_pool(args.pool)
    if args.api_base:
        pool = replace(pool, api_base=args.api_base)
    if args.test_files:
        train, test = read_questions(args.train_files), read_questions(args.test_files)
        title, world = "Comparison", None
    else:
        world = World(WorldConfig(seed=args.world_seed))
        if not set(world.llms) <= {llm.name for llm in pool.llms}:
            raise ConfigError(
                f"pool {pool.name!r} is not the embedded world's; give --train_files and "
                "--test_files for another"
            )
        train = world_questions(world.knowledge, "train")
        test = world_questions(world.knowledge, "test")
        title = "Embedded world, test split"
    test = sample(test, args.test_questions or len(test), args.seed)
    known = {question.prompt.text for question in test}
    train = [question for question in train if question.prompt.text not in known]
    if min(len(train), args.train_questions) < _FEWEST_TO_LEARN_FROM:
        raise ConfigError(
            f"{min(len(train), args.train_questions)} training questions (those of the test are "
            f"left out) are too few; at least {_FEWEST_TO_LEARN_FROM} are needed"
        )
    return Benchmark(title, pool, sample(train, args.train_questions, args.seed), test, world)


@asynccontextmanager
async def running_pool(
    benchmark: Benchmark, retriever: str | None
) -> AsyncIterator[tuple[PoolConfig, str | None]]:
    """The pool with its endpoints up, and the name of its retriever.

    A simulated pool gets its server; the embedded world also gets a retriever over its documents.
    """
    pool, world = benchmark.pool, benchmark.world
    async with AsyncExitStack() as stack:
        if pool.simulated and pool.api_base is None:
            config = world.config if world is not None else WorldConfig()
            pool = replace(pool, api_base=stack.enter_context(simulated_pool(pool, config)))
        if world is not None and retriever is None:
            index = BM25(world_corpus(world.knowledge))
            url = await stack.enter_async_context(retrieval_endpoint(index, passages=1))
            member = LLMConfig(
                name=WORLD_RETRIEVER,
                model=MODEL,
                base_url=url,
                completion_price=_RETRIEVER_PRICE,
                in_prompt=False,
            )
            pool, retriever = replace(pool, llms=[*pool.llms, member]), WORLD_RETRIEVER
        yield pool, retriever


async def run_baselines(benchmark: Benchmark, args: argparse.Namespace) -> list[Row]:
    """Collects the training outcomes, trains, and lets every baseline answer the test questions.

    Raises:
        ConfigError: for baselines or a retriever that are not to be had.
        SilentPoolError: if the pool answers nothing.
    """
    async with running_pool(benchmark, args.retriever) as (pool, retriever):
        setting = _setting(benchmark, pool, retriever, args)
        contestants = make_baselines(args.baselines, setting)
        # However many baselines ask it, an LLM gets a query once; each is charged as if alone.
        client = PoolClient(pool, once=True)
        ask = limited(client.ask)
        try:
            await client.check()
            if any(contestant.learns for contestant in contestants):
                await _train(contestants, benchmark, setting, ask, args.embedder)
            return await _judge_all(contestants, benchmark.test, ask, args.normalization)
        finally:
            await client.close()


def _setting(
    benchmark: Benchmark, pool: PoolConfig, retriever: str | None, args: argparse.Namespace
) -> Setting:
    retriever = _member(pool, "--retriever", retriever)
    reader = _member(pool, "--reader", args.reader)
    llms = [llm for llm in pool.offered if llm.name != retriever]
    world = benchmark.world
    setting = Setting(llms, args.seed, args.carrot_lambda, retriever, reader)
    if world is None:
        return setting
    return replace(
        setting,
        knowledge=world.knowledge,
        oracle=Oracle(world, pool.prices(), _of_world(benchmark)),
        oracle_cost_coes=sorted({0.0, *(float(point.label) for point in args.sweep)}),
    )


def _member(pool: PoolConfig, option: str, name: str | None) -> str | None:
    if name is None:
        return None
    llm = pool.resolve(name)
    if llm is None:
        known = ", ".join(llm.name for llm in pool.llms)
        raise ConfigError(f"{option} {name!r} is not in pool {pool.name!r}, which has {known}")
    return llm.name


def _of_world(benchmark: Benchmark) -> list[WorldQuestion]:
    """The test questions with their chains of facts."""
    assert benchmark.world is not None
    texts = {question.prompt.text for question in benchmark.test}
    return [q for q in benchmark.world.knowledge.questions("test") if q.text in texts]


async def _train(
    contestants: Sequence[Contestant],
    benchmark: Benchmark,
    setting: Setting,
    ask: Ask,
    embedder: str,
) -> None:
    with progress_bar() as progress:
        total = len(benchmark.train) * len(setting.llms)
        task = progress.add_task("asking training questions", total=total)
        outcomes = await collect_outcomes(
            benchmark.train,
            setting.names,
            ask,
            load_embedder(embedder),
            lambda: progress.advance(task),
        )
        learners = [contestant for contestant in contestants if contestant.learns]
        for contestant in progress.track(learners, description="training"):
            contestant.fit(outcomes)
    logger.info("%d baselines learned from %d questions", len(learners), len(benchmark.train))


async def _judge_all(
    contestants: Sequence[Contestant],
    questions: Sequence[Question],
    ask: Ask,
    normalization: str,
) -> list[Row]:
    rows = []
    with progress_bar() as progress:
        task = progress.add_task("", total=len(contestants) * len(questions))
        for contestant in contestants:
            progress.update(task, description=f"answering: {contestant.name}")
            records = await judge(
                contestant, questions, ask, lambda: progress.advance(task), normalization
            )
            failed = sum(record.scores["failed_calls"] for record in records)
            if failed:
                logger.warning("%s: %d calls brought no reply", contestant.name, failed)
            rows.append(measured_row(contestant.name, contestant.kind, records))
    return rows


def compare(args: argparse.Namespace) -> Comparison:
    """Everything of a comparison but showing it.

    Raises:
        UserError: for files, a pool or options that cannot be used.
    """
    benchmark = load_benchmark(args)
    saved = [_saved_row(saved, benchmark, args.normalization) for saved in args.router]
    swept = [
        (float(saved.label), read_saved(saved.folder, benchmark.test, args.normalization))
        for saved in args.sweep
    ]
    rows = asyncio.run(run_baselines(benchmark, args)) + saved
    if benchmark.world is not None:
        questions = _of_world(benchmark)
        rows += per_hop_rows(benchmark.world, benchmark.pool, questions)
        rows.append(single_shot_row(benchmark.world, benchmark.pool, questions))
    return Comparison(benchmark.title, rows, sweep_points(swept))


def _saved_row(saved: SavedEvaluation, benchmark: Benchmark, normalization: str) -> Row:
    records = read_saved(saved.folder, benchmark.test, normalization)
    return measured_row(saved.label, kind_of(saved.label), records)


def main(arguments: list[str]) -> None:
    """Compares, shows the tables, writes the file and the plot."""
    args = parse_arguments(arguments)
    comparison = compare(args)
    for table in tables(comparison):
        console.print(table)
    write_comparison(args.output / "comparison.json", comparison)
    plot_comparison(comparison, args.output / "comparison.png")
    console.print(f"wrote comparison.json and comparison.png to {args.output}/", highlight=False)


if __name__ == "__main__":
    run_as_command(main)
