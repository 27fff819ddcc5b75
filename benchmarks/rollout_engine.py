"""What the way to the engine costs: Ray replicas against vLLM's offline ``LLM.generate``, on CPU.

    .venv/bin/python benchmarks/rollout_engine.py

The quickstart's policy with random weights, 256 prompts, at most 48 sampled tokens each with their
log-probs, two threads. The bare form is stepped in its own process, vLLM's faster layout on a CPU,
and gets all prompts in one call. A replica gets one request a prompt, as the agent loop sends them,
with the engine in processes of its own (``rollout.inline_engine=false``) or stepped in the actor's.
Each form starts, generates once to warm up, and then ROUNDS times; forms run one after the other.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from router_r1.pool.loading import load_pool
from router_r1.world.cold_start.policy import create_policy
from router_r1.world.cold_start.setting import Setting
from router_r1.world.config import PolicySize
from verl.config.ppo import RayConfig
from verl.config.rollout import RolloutConfig
from verl.interfaces import SamplingParams
from verl.trainer.cluster import ray_cluster
from verl.utils.console import console
from verl.workers.rollout.replicas import RolloutReplicas
from verl.workers.rollout.vllm_replica import ReplicaSettings, engine_arguments

ROUNDS = 5
PROMPTS, TOKENS, THREADS, CONTEXT = 256, 48, 2, 256
GOAL = 0.9


@dataclass(frozen=True)
class Timing:
    """Seconds until the engine is up, and tokens/s of a batch."""

    start: float
    rate: float


def prompts() -> list[list[int]]:
    """No two alike, so that no prefix is cached."""
    return [[10 + (7 * row + 3 * i) % 200 for i in range(40)] for row in range(PROMPTS)]


def config(inline: bool) -> RolloutConfig:
    """Of the engine in every form."""
    return RolloutConfig(
        dtype="float32",
        enforce_eager=True,
        inline_engine=inline,
        cpu_threads=THREADS,
        max_num_seqs=PROMPTS,
    )


def timed(began: float, generate: Callable[[], int]) -> Timing:
    """Times the rounds after a first; ``generate`` returns the tokens that it got."""
    start = time.perf_counter() - began
    rates = []
    for _ in range(ROUNDS + 1):
        before = time.perf_counter()
        tokens = generate()
        rates.append(tokens / (time.perf_counter() - before))
    return Timing(start, statistics.median(rates[1:]))


def replicas(folder: Path, inline: bool) -> Timing:
    """One replica in a Ray actor."""
    began = time.perf_counter()
    engine = RolloutReplicas(config(inline), str(folder), "cpu", CONTEXT)
    engine.wait_until_ready()

    async def batch() -> int:
        sampling = SamplingParams(max_tokens=TOKENS, temperature=1.0)
        calls = (engine.generate(ids, sampling, str(i)) for i, ids in enumerate(prompts()))
        return sum(len(output.token_ids) for output in await asyncio.gather(*calls))

    try:
        return timed(began, lambda: asyncio.run(batch()))
    finally:
        engine.shutdown()


def bare(folder: str, connection: Any) -> None:
    """vLLM alone, in this process; sends its :class:`Timing`."""
    began = time.perf_counter()
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "OMP_NUM_THREADS": str(THREADS),
        "TORCHDYNAMO_DISABLE": "1",
    }
    from vllm import LLM, TokensPrompt
    from vllm import SamplingParams as VLLMSamplingParams

    settings = ReplicaSettings.from_config(config(True), folder, "cpu", CONTEXT, 0, False)
    arguments = engine_arguments(settings)
    llm = LLM(**arguments)
    params = VLLMSamplingParams(
        max_tokens=TOKENS, temperature=1.0, logprobs=0, stop_token_ids=list(settings.end_ids)
    )

    def batch() -> int:
        asked = [TokensPrompt(prompt_token_ids=ids) for ids in prompts()]
        outputs = llm.generate(asked, params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    connection.send(timed(began, batch))


def alone(folder: Path) -> Timing:
    """:func:`bare` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=bare, args=(str(folder), theirs))
    process.start()
    timing: Timing = ours.recv()
    process.join()
    return timing


def measure() -> dict[str, float]:
    """Prints each form's start and tokens/s, and its share of the bare form's."""
    with tempfile.TemporaryDirectory() as name, ray_cluster(RayConfig(num_cpus=2), num_ranks=1):
        folder = Path(name) / "policy"
        create_policy(Setting(pool=load_pool("embedded")), PolicySize(), 0, folder)
        timings = {
            "LLM.generate": alone(folder),
            "replica, engine in a process of its own": replicas(folder, inline=False),
            "replica, inline engine": replicas(folder, inline=True),
        }
    reference = timings["LLM.generate"].rate
    table = Table(title=f"{PROMPTS} prompts, at most {TOKENS} tokens each", title_justify="left")
    for column in ("", "start, s", "tokens/s", f"of bare vLLM (goal {GOAL})"):
        table.add_column(column, justify="left" if not column else "right")
    for form, timing in timings.items():
        share = f"{timing.rate / reference:.2f}"
        table.add_row(form, f"{timing.start:.1f}", f"{timing.rate:,.0f}", share)
    console.print(table)
    rates = {form: timing.rate / reference for form, timing in timings.items()}
    return {
        "tokens/s of an inline replica, of bare vLLM": rates["replica, inline engine"],
        "tokens/s of a replica with engine processes, of bare vLLM": rates[
            "replica, engine in a process of its own"
        ],
    }


if __name__ == "__main__":
    measure()
