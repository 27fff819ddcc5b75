"""The agent loop against a plain loop in lock-step, with slow calls and with calls that take no
time; and how near the agent loop comes to the least time that its work can take.

    .venv/bin/python -m benchmarks.lockstep [--counts 64,256]

Both loops have the same policy (the quickstart's after its cold start), questions, seeds and vLLM
replica, and ask the same simulated pool over HTTP: a call takes 0.5 s in the median and 8 s at the
99th percentile, log-normal, or nothing. The plain loop is that of plain_loop.py.
Prompts differ in a dozen tokens at their end, so what one loop leaves in the engine's prefix cache
spares the other next to nothing. Tokens decoded are those that the engine returned.

With slow calls the agent loop runs once more as asynchronous training runs it
(``trainer.async_level=1``): a step takes the trajectories that have ended, up to two steps late,
and leaves those that wait for a call to the next one, so that twice as many are under way. The
questions come again under other seeds, and nothing is trained between two steps. The mean of five
steps counts, after three in which trajectories pile up.

The least time is that of the trajectory whose own calls take longest, or that of the compute alone
(the agent loop without latency), whichever is longer. Goals are the project's own: 4 times as fast
as lock-step with 256 trajectories and slow calls that need not be waited for, 2 times without
latency, 1.08 of the least time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import cycle

from rich.table import Table

from benchmarks.first_policy import first_policy
from benchmarks.plain_loop import LIMITS, SEED, Rollout, Setting, calls_of, lock_step
from benchmarks.slow_pool import NONE, SLOW, Latency, SlowWorld, slow_pool
from router_r1.llm_agent.generation import LLMGenerationManager
from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.pool.config import PoolConfig
from verl.config.ppo import RayConfig
from verl.config.rollout import RolloutConfig
from verl.interfaces import RolloutOptions, RolloutRequest
from verl.trainer.cluster import ray_cluster
from verl.trainer.ppo.prompts import PromptRequests
from verl.trainer.ppo.prompts_under_way import PromptsUnderWay
from verl.trajectory import SegmentKind
from verl.utils.console import console
from verl.utils.dataset import load_tokenizer
from verl.utils.garbage import spare_the_collector
from verl.workers.rollout.replicas import RolloutReplicas

COUNTS, ROUNDS = (64, 256), 3
BEFORE, STEPS = 3, 5  # steps until as much is begun as is left, and those that are timed
OPTIONS = RolloutOptions(temperature=1.0, seed=SEED)
ENGINE = RolloutConfig(
    dtype="float32", enforce_eager=True, inline_engine=True, cpu_threads=2, max_num_seqs=256
)
Figures = dict[str, float]


def requests_of(source: SlowWorld, pool: PoolConfig, count: int) -> list[RolloutRequest]:
    """Prompts of the test split."""
    template = build_prompt_template("compact", pool)
    questions = source.world.knowledge.questions("test")[:count]
    texts = [fill(template, question.text) for question in questions]
    return [
        RolloutRequest(f"q{row}", [{"role": "user", "content": text}])
        for row, text in enumerate(texts)
    ]


def agent_loop(setting: Setting) -> Rollout:
    """The project's: one coroutine a trajectory."""
    agent = LLMGenerationManager(setting.engine, setting.tokenizer, setting.pool, LIMITS)
    try:
        start = time.perf_counter()
        trajectories = agent.rollout(setting.requests, OPTIONS)
        seconds = time.perf_counter() - start
    finally:
        agent.close()
        setting.engine.end_sessions()
    assert not any(trajectory.excluded for trajectory in trajectories)
    asked = [[(c.result.llm, c.query) for c in t.record.calls if c.ok] for t in trajectories]
    sampled = sum(
        len(segment.token_ids)
        for trajectory in trajectories
        for segment in trajectory.segments
        if segment.kind is SegmentKind.ACTION
    )
    return Rollout(seconds, sampled, sampled, *calls_of(setting.source, asked))


class Questions(PromptRequests):
    """The benchmark's prompts over and over, each time under a name, and so a seed, of its own.

    Has what sampling asks for, and no rows to go on from.
    """

    def __init__(self, requests: Sequence[RolloutRequest]) -> None:
        self.options = OPTIONS
        self._left = enumerate(cycle(requests))

    def take(self, step: int, count: int) -> list[tuple[int, list[RolloutRequest]]]:
        """See :class:`~verl.trainer.ppo.prompts.PromptRequests`."""
        taken = [next(self._left) for _ in range(count)]
        return [(row, [replace(one, uid=f"step{step}-{row}")]) for row, one in taken]


def carried_over(setting: Setting) -> tuple[float, float]:
    """Seconds and calls of a step that leaves slow trajectories to the next one."""
    agent = LLMGenerationManager(setting.engine, setting.tokenizer, setting.pool, LIMITS)
    count = len(setting.requests)
    # One step more than are taken, so that the last one, too, begins trajectories of the next.
    last = BEFORE + STEPS
    prompts = PromptsUnderWay(Questions(setting.requests), agent, count, last + 1, nullcontext)
    start = calls = 0.0
    try:
        for step in range(1, last + 1):
            trajectories = prompts.sample(step, count).trajectories
            assert not any(trajectory.excluded for trajectory in trajectories)
            if step == BEFORE:
                start = time.perf_counter()
            elif step > BEFORE:
                calls += sum(len(trajectory.record.calls) for trajectory in trajectories)
        return (time.perf_counter() - start) / STEPS, calls / STEPS
    finally:
        prompts.close()
        agent.close()
        setting.engine.end_sessions()


def compare(setting: Setting, latency: Latency, alone: dict[int, float], table: Table) -> Figures:
    """Both loops, in turn; ``alone`` gets the seconds without latency by number of trajectories."""
    slow, count = latency is SLOW, len(setting.requests)
    rounds = [(agent_loop(setting), lock_step(setting)) for _ in range(1 if slow else ROUNDS)]
    ours, plain = (
        sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
        for runs in zip(*rounds, strict=True)
    )
    alone.setdefault(count, ours.seconds)
    least = max(ours.longest_calls_s, alone[count])
    for name, run in (("agent loop", ours), ("lock-step", plain)):
        words = (str(count), "slow" if slow else "none", name, f"{run.seconds:.2f}", str(run.calls))
        table.add_row(*words, f"{run.decoded / run.kept:.2f}", f"{run.seconds / least:.2f}")
    what = f"{count} trajectories, {'slow calls' if slow else 'no latency'}"
    figures = {f"times as fast as lock-step, {what}": plain.seconds / ours.seconds}
    if slow:
        figures[f"makespan over its bound, {what}"] = ours.seconds / least
        a_step, calls = carried_over(setting)
        words = (str(count), "slow", "agent loop, carried over", f"{a_step:.2f}", f"{calls:.0f}")
        table.add_row(*words, "", "")
        figures[f"times as fast as lock-step, carried over, {what}"] = plain.seconds / a_step
    else:
        figures[f"tokens decoded per token kept, {what}"] = ours.decoded / ours.kept
        figures[f"tokens decoded per token kept in lock-step, {what}"] = plain.decoded / plain.kept
    return figures


def measure(counts: Sequence[int] = COUNTS) -> Figures:
    """Runs both loops, without and with latency; prints a table."""
    table = Table(title="the agent loop against lock-step", title_justify="left")
    for column in ("trajectories", "latency", "loop", "s", "calls", "decoded/kept", "s/least"):
        table.add_column(column, justify="left" if column in ("latency", "loop") else "right")
    figures: Figures = {}
    alone: dict[int, float] = {}
    with ray_cluster(RayConfig(num_cpus=2), num_ranks=1):
        folder = str(first_policy())
        engine = RolloutReplicas(ENGINE, folder, "cpu", LIMITS.max_prompt_length)
        try:
            engine.wait_until_ready()
            tokenizer = load_tokenizer(folder)
            spare_the_collector()
            for latency in (NONE, SLOW):
                source = SlowWorld(latency)
                with slow_pool(latency, 2 * max(counts)) as pool:
                    requests = requests_of(source, pool, max(counts))
                    setting = Setting(engine, tokenizer, pool, source, requests)
                    if latency is NONE:
                        agent_loop(setting)  # an engine's first generation is slow
                    for count in counts:
                        of_count = replace(setting, requests=requests[:count])
                        figures |= compare(of_count, latency, alone, table)
        finally:
            engine.shutdown()
    console.print(table)
    return figures


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description="the agent loop against lock-step")
    parser.add_argument("--counts", default="64,256", help="trajectories, a comma list")
    measure([int(count) for count in parser.parse_args().counts.split(",")])


if __name__ == "__main__":
    main()
