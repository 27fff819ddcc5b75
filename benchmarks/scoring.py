"""How long it takes to score 10,000 saved trajectories: reading, reward, intervals, writing.

    .venv/bin/python benchmarks/scoring.py

The trajectories are answers to the embedded world's questions, a tenth of them badly formed; the
cost window is full, as after training. Prints seconds by stage.
"""

from __future__ import annotations

import tempfile
import time
from importlib import import_module
from pathlib import Path

from rich.table import Table

from router_r1.evaluation.frames import RoutedRecord
from router_r1.llm_agent.observation import render_observation
from router_r1.llm_agent.trajectory import Call, RoutedTrajectory, Turn
from router_r1.pool.loading import load_pool
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.reward.manager import RewardConfig, RoutingRewardFunction
from router_r1.world.config import WorldConfig
from router_r1.world.dataset import data_source
from router_r1.world.knowledge import Question
from router_r1.world.simulated_llm import World
from verl.trainer.evaluation.records import EvaluationRecord, RecordLog, read_log, write_parquet
from verl.trainer.evaluation.score import score_folder, score_records
from verl.trainer.evaluation.summary import summarise
from verl.trajectory import TrajectoryStatus
from verl.utils.console import console

COUNT = 10_000


def trajectory(number: int, question: Question, world: World) -> RoutedRecord:
    """As a router of one LLM would answer; every tenth forgets to close a tag."""
    llm = sorted(world.llms)[number % len(world.llms)]
    turns, subject = [], ""
    for hop in question.hops:
        reply = world.reply(llm, hop.query)
        tokens = reply.completion_tokens
        result = CallResult(
            llm, Outcome.OK, reply.text, 20, tokens, float(tokens), tokens / 1e6, latency_s=0.02
        )
        text = f"<think> for {hop.domain} {llm}</think><search> {llm}: {hop.query}</search>"
        turns.append(Turn(text, Call(hop.query, result), render_observation(reply.text)))
        subject = reply.text.rsplit(" is ", 1)[-1].rstrip(".")
    end = f"<think> I know now</think><answer> {subject}"
    turns.append(Turn(end + ("" if number % 10 == 0 else "</answer>")))
    source, status = data_source(question), TrajectoryStatus.ANSWERED
    told = RoutedTrajectory(status, tuple(turns))
    return EvaluationRecord(
        f"{source}/{number}", 0, source, question.text, [question.answer], status.value, told
    )


def measure() -> dict[str, float]:
    """Times the stages, and the whole as ``main_eval`` runs it."""
    import_module("verl.protocol")  # brings torch, for which main_eval waits once
    world = World(WorldConfig(test_questions=400))
    questions = world.knowledge.questions("test")
    records = [trajectory(i, questions[i % len(questions)], world) for i in range(COUNT)]
    reward = RoutingRewardFunction(RewardConfig(), load_pool("embedded"), "em", 0.9)
    window = [float(i) for i in range(1000)]
    reward.load_state_dict({"normalizer": {"roots": window, "window": 1000}})
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = RecordLog(folder / "log.jsonl")
        for record in records:
            log.append(record)
        log.close()
        start = time.monotonic()
        records = read_log(folder / "log.jsonl", RoutedTrajectory)
        seconds["reading"] = time.monotonic() - start
        start = time.monotonic()
        scored = score_records(records, reward)
        seconds["reward"] = time.monotonic() - start
        start = time.monotonic()
        summarise(scored, "em")
        seconds["intervals"] = time.monotonic() - start
        start = time.monotonic()
        write_parquet(folder / "out.parquet", scored)
        seconds["writing"] = time.monotonic() - start
        start = time.monotonic()
        score_folder(folder / "log.jsonl", RoutedTrajectory, folder, reward, {}, "em")
        seconds["all of it (main_eval)"] = time.monotonic() - start
    table = Table(title=f"{COUNT:,} trajectories", title_justify="left")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for stage, value in seconds.items():
        table.add_row(stage, f"{value:.2f}")
    console.print(table)
    return {
        "10,000 trajectories, reward": seconds["reward"],
        "10,000 trajectories, read, score and write": seconds["all of it (main_eval)"],
    }


if __name__ == "__main__":
    measure()
