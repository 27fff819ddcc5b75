"""Ten thousand trajectories at once through the agent loop, against the simulated pool over HTTP.

    .venv/bin/python -m benchmarks.many_at_once [--count 10000]

A scripted engine stands here and writes each turn at once, since the engine is not what is
measured: one call, then an answer. The pool takes as long for a call as all of them take to be
sent, so that they are all under way at the same time. Goals are the project's own: no trajectory is
lost, that is each comes back once, in its place, answered, with the reply that its own query gets.

What a rollout takes beyond the call is the driver's one core: two turns and a call of each
trajectory. An engine behind Ray costs the driver as much again, which is measured by itself, with
an actor that answers at once.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from benchmarks.slow_pool import Latency, SlowWorld, slow_pool
from router_r1.llm_agent.generation import GenerationLimits, LLMGenerationManager
from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.pool.config import PoolConfig
from router_r1.world.cold_start.policy import world_tokenizer
from router_r1.world.cold_start.setting import Setting
from router_r1.world.knowledge import Question
from verl.config.ppo import RayConfig
from verl.interfaces import (
    GenerationOutput,
    OnTokens,
    RolloutOptions,
    RolloutRequest,
    SamplingParams,
)
from verl.trainer.cluster import ray_cluster
from verl.trajectory import TrajectoryStatus
from verl.utils.console import console
from verl.utils.garbage import spare_the_collector

COUNT, RAY_CALLS, ROUNDS = 10_000, 2_000, 3
LIMITS = GenerationLimits(3, max_response_length=48, max_prompt_length=512, max_obs_length=64)
SECONDS_OF_A_CALL = 15.0
LLM = "Draco"
Figures = dict[str, float]


class ScriptedEngine:
    """Implements :class:`verl.interfaces.GenerationEngine`: a call, then an answer.

    Attributes:
        waiting: trajectories whose call is under way.
        most: at once.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, queries: dict[str, str]) -> None:
        self._tokenizer = tokenizer
        self._queries = queries
        self._asked: set[str] = set()
        self.waiting = 0
        self.most = 0

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        session_id: str,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        """The next turn of ``session_id``."""
        del prompt_ids, sampling, on_tokens
        if session_id in self._asked:
            self.waiting -= 1
            text = "<think> I know now</think><answer> it</answer>"
        else:
            self._asked.add(session_id)
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            text = f"<think> for film</think><search> {LLM}: {self._queries[session_id]}</search>"
        ids = tuple(self._tokenizer.encode(text))
        return GenerationOutput(ids, (-0.5,) * len(ids), "stop")


@dataclass(frozen=True)
class Run:
    """What so many trajectories at once came to."""

    count: int
    seconds: float
    lost: int
    most_at_once: int
    bytes: int


def run(count: int, pool: PoolConfig, source: SlowWorld, questions: Sequence[Question]) -> Run:
    """Through the agent loop."""
    tokenizer = world_tokenizer(Setting(pool, source.world.config))
    template = build_prompt_template("compact", pool)
    asked = [questions[row % len(questions)] for row in range(count)]
    queries = {f"q{row}/0": question.hops[0].query for row, question in enumerate(asked)}
    engine = ScriptedEngine(tokenizer, queries)
    requests = [
        RolloutRequest(f"q{row}", [{"role": "user", "content": fill(template, question.text)}])
        for row, question in enumerate(asked)
    ]
    agent = LLMGenerationManager(engine, tokenizer, pool, LIMITS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        start = time.perf_counter()
        trajectories = agent.rollout(requests, RolloutOptions(seed=0))
        seconds = time.perf_counter() - start
        left = agent.pending_tasks()
    finally:
        agent.close()
    lost = count - len(trajectories) + left + engine.waiting
    for request, trajectory in zip(requests, trajectories, strict=True):
        query = queries[f"{request.uid}/0"]
        replies = [call.result.text for call in trajectory.record.calls]
        lost += (
            trajectory.uid != request.uid
            or trajectory.status is not TrajectoryStatus.ANSWERED
            or trajectory.excluded
            or replies != [source.reply(LLM, query).text]
        )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return Run(count, seconds, lost, engine.most, 1024 * grown)


class Replying:
    """An actor that answers at once: what is left of a generation is Ray's way to it and back."""

    async def generate(self, prompt_ids: list[int], sampling: SamplingParams) -> GenerationOutput:
        """As many tokens as a turn of the quickstart has."""
        return GenerationOutput(tuple(prompt_ids[:30]), (-0.5,) * 30, sampling.stop[0])


def seconds_of_a_ray_call() -> float:
    """Of the driver, for one of many generations at once."""
    actor = ray.remote(Replying).options(max_concurrency=RAY_CALLS).remote()
    sampling = SamplingParams(max_tokens=48, stop=("stop",))

    async def all_of_them() -> float:
        start = time.perf_counter()
        references = [actor.generate.remote(list(range(150)), sampling) for _ in range(RAY_CALLS)]
        await asyncio.gather(*(asyncio.wrap_future(one.future()) for one in references))
        return (time.perf_counter() - start) / RAY_CALLS

    return statistics.median(asyncio.run(all_of_them()) for _ in range(ROUNDS))


def allow_connections(count: int) -> int:
    """Raises this process's limit of open files, which the pool's inherits; the trajectories that
    fit under it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1_000
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    return min(count, granted - 1_000)


def measure(count: int = COUNT) -> Figures:
    """Runs a tenth, then all; prints a table."""
    count = allow_connections(count)
    source = SlowWorld(Latency(SECONDS_OF_A_CALL, SECONDS_OF_A_CALL))
    questions = source.world.knowledge.questions("test")
    spare_the_collector()
    with slow_pool(Latency(SECONDS_OF_A_CALL, SECONDS_OF_A_CALL), count) as pool:
        tenth = run(count // 10, pool, source, questions)
        whole = run(count, pool, source, questions)
    with ray_cluster(RayConfig(num_cpus=2), num_ranks=1):
        ray_call = seconds_of_a_ray_call()
    title = f"trajectories at once, a call takes {SECONDS_OF_A_CALL:.0f} s"
    table = Table(title=title, title_justify="left")
    for column in ("trajectories", "seconds", "lost", "calls at once", "grew by, MB"):
        table.add_column(column, justify="right")
    for one in (tenth, whole):
        cells = (f"{one.count:,}", f"{one.seconds:.1f}", str(one.lost), f"{one.most_at_once:,}")
        table.add_row(*cells, f"{one.bytes / 1e6:.0f}")
    console.print(table)
    console.print(f"a generation's way through Ray: {1e3 * ray_call:.2f} ms of the driver")
    return {
        "trajectories at once": float(whole.most_at_once),
        "trajectories lost": float(whole.lost),
        "driver's time of a trajectory": 1e3 * (whole.seconds - SECONDS_OF_A_CALL) / whole.count,
        "driver's time of a generation's way through Ray": 1e3 * ray_call,
        "memory of a trajectory": whole.bytes / whole.count / 1e3,
    }


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description="many trajectories at once")
    parser.add_argument("--count", type=int, default=COUNT)
    measure(parser.parse_args().count)


if __name__ == "__main__":
    main()
