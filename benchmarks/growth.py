"""How the driver's time and memory grow with trajectories and with rows of data.

    .venv/bin/python -m benchmarks.growth

Collating, rewarding (EM, format, cost) and GRPO's advantages of 64, 1,000 and 10,000 trajectories
of the embedded world, of two turns; loading and length-checking 1,000, 10,000 and 100,000 rows.
Each size runs in a process of its own, which says how much its memory grew meanwhile.

Goals are the project's own: 2 s for 10,000 trajectories; a trajectory or a row takes no more time
and memory at the largest size than at a tenth of it (1.1 times with what two runs differ by).
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from router_r1.data_row import check_routing_row
from router_r1.llm_agent.observation import encode_observation
from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.llm_agent.trajectory import Call, RoutedTrajectory, Turn
from router_r1.pool.loading import load_pool
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.reward.manager import RewardConfig, RoutingRewardFunction
from router_r1.world.cold_start.policy import world_tokenizer
from router_r1.world.cold_start.setting import Setting
from router_r1.world.config import WorldConfig
from router_r1.world.dataset import write_world
from router_r1.world.knowledge import Question
from router_r1.world.simulated_llm import World
from verl.config.algorithm import AlgorithmConfig
from verl.interfaces import RolloutRequest
from verl.trainer.ppo.advantage import add_advantages, add_rewards
from verl.trainer.ppo.scored_rollout import labelled_batch
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus
from verl.utils.console import console
from verl.utils.dataset import PromptDataset

TRAJECTORIES, ROWS = (64, 1_000, 10_000), (1_000, 10_000, 100_000)
SAMPLES, OBSERVED = 4, 64
LARGE = WorldConfig(train_entities=10, train_questions=10, eval_entities=600, test_questions=2_500)
Figures = dict[str, float]


@dataclass(frozen=True)
class Cost:
    """Of one size: seconds by part, and bytes that the process grew by at most."""

    seconds: dict[str, float]
    bytes: int

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Maker:
    """Makes trajectories of the embedded world."""

    world: World
    tokenizer: PreTrainedTokenizerBase
    template: str

    def trajectory(self, number: int, question: Question) -> Trajectory[RoutedTrajectory]:
        """One call, then the right answer."""
        hop, llm = question.hops[0], sorted(self.world.llms)[number % len(self.world.llms)]
        reply = self.world.reply(llm, hop.query)
        asked = f"<think> for {hop.domain} {llm}</think><search> {llm}: {hop.query}</search>"
        answered = f"<think> I know now</think><answer> {question.answer}</answer>"
        result = CallResult(llm, Outcome.OK, reply.text, 20, reply.completion_tokens, cost=20.0)
        block = encode_observation(reply.text, self.tokenizer, OBSERVED)
        prompt = self.tokenizer.encode(fill(self.template, question.text))
        segments = [
            Segment(SegmentKind.PROMPT, tuple(prompt)),
            self._action(asked),
            Segment(SegmentKind.OBSERVATION, tuple(block.token_ids)),
            self._action(answered),
        ]
        turns = (Turn(asked, Call(hop.query, result), block.text), Turn(answered))
        status = TrajectoryStatus.ANSWERED
        record = RoutedTrajectory(status, turns)
        return Trajectory(question.text, segments, status, record, number % SAMPLES)

    def _action(self, text: str) -> Segment:
        ids = tuple(self.tokenizer.encode(text))
        return Segment(SegmentKind.ACTION, ids, (-0.5,) * len(ids))


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def driver_work(count: int) -> Cost:
    """What the driver computes in a step on ``count`` trajectories."""
    world, pool = World(LARGE), load_pool("embedded")
    tokenizer = world_tokenizer(Setting(pool, LARGE))
    maker = Maker(world, tokenizer, build_prompt_template("compact", pool))
    questions = world.knowledge.questions("test")
    asked = [questions[number // SAMPLES % len(questions)] for number in range(count)]
    made = [maker.trajectory(number, question) for number, question in enumerate(asked)]
    requests = []
    for question in asked:
        truth = {"ground_truth": {"target": [question.answer]}}
        row = {"reward_model": truth, "data_source": "world"}
        requests.append(RolloutRequest(question.text, [], row=row))
    reward_function = RoutingRewardFunction(RewardConfig(), pool, "em", 0.9)
    before = _peak_bytes()
    seconds: dict[str, float] = {}
    seconds["collate"], batch = _seconds(
        lambda: labelled_batch(requests, made, int(tokenizer.pad_token_id))
    )
    seconds["reward"], reward = _seconds(lambda: reward_function(batch, validate=False))

    def advantages() -> None:
        add_rewards(batch, made, reward)
        batch.batch["token_level_rewards"] = batch.batch["token_level_scores"]
        add_advantages(batch, AlgorithmConfig(adv_estimator="grpo"))

    seconds["advantages"], _ = _seconds(advantages)
    return Cost(seconds, _peak_bytes() - before)


def row_work(count: int) -> Cost:
    """Loading and checking a file of ``count`` rows."""
    pool = load_pool("embedded")
    world = World(LARGE)
    tokenizer = world_tokenizer(Setting(pool, LARGE))
    with tempfile.TemporaryDirectory() as name:
        written = pd.read_parquet(write_world(world, pool, Path(name))["test"])
        file = Path(name) / "rows.parquet"
        copies = -(-count // len(written))
        pd.concat([written] * copies)[:count].to_parquet(file)
        before = _peak_bytes()
        seconds: dict[str, float] = {}
        seconds["load"], data = _seconds(
            lambda: PromptDataset(
                [str(file)], "prompt", check=lambda row: check_routing_row(row, "paper")
            )
        )
        seconds["lengths"], _ = _seconds(lambda: data.check_lengths(tokenizer, 512))
    return Cost(seconds, _peak_bytes() - before)


def grown(what: str, work: Callable[[int], Cost], sizes: Sequence[int]) -> dict[int, Cost]:
    """Each size's cost; prints them."""
    costs = {}
    for size in sizes:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            costs[size] = pool.submit(work, size).result()
    parts = list(costs[sizes[0]].seconds)
    table = Table(title=f"the driver's work on {what}, seconds", title_justify="left")
    for column in (what, *parts, "all", f"µs of one of the {what}", "grew by, MB"):
        table.add_column(column, justify="right")
    for size, cost in costs.items():
        cells = [f"{cost.seconds[part]:.3f}" for part in parts]
        each, grew = f"{1e6 * cost.total / size:.0f}", f"{cost.bytes / 1e6:.0f}"
        table.add_row(f"{size:,}", *cells, f"{cost.total:.3f}", each, grew)
    console.print(table)
    return costs


def growth_of_each(costs: dict[int, Cost], sizes: Sequence[int]) -> tuple[float, float]:
    """Seconds and bytes of one at the largest size over those at the size before."""
    middle, largest = costs[sizes[-2]], costs[sizes[-1]]
    factor = sizes[-2] / sizes[-1]
    return largest.total / middle.total * factor, largest.bytes / max(1, middle.bytes) * factor


def measure() -> Figures:
    """Runs all sizes; prints tables."""
    driver = grown("trajectories", driver_work, TRAJECTORIES)
    rows = grown("rows", row_work, ROWS)
    of_trajectory = growth_of_each(driver, TRAJECTORIES)
    of_row = growth_of_each(rows, ROWS)
    return {
        "10,000 trajectories: collate, reward, advantages": driver[TRAJECTORIES[-1]].total,
        "time of a trajectory, 10,000 over 1,000": of_trajectory[0],
        "memory of a trajectory, 10,000 over 1,000": of_trajectory[1],
        "100,000 rows: load and check": rows[ROWS[-1]].total,
        "time of a row, 100,000 over 10,000": of_row[0],
        "memory of a row, 100,000 over 10,000": of_row[1],
    }


if __name__ == "__main__":
    measure()
