"""The oracle chooses by what the run's reward weighs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean

import pytest

from router_r1.pool.config import PoolConfig
from router_r1.pool.ledger import Ledger
from router_r1.reward.cost import CostScale, RewardScales
from router_r1.summary import write_summary
from router_r1.world.knowledge import Question
from router_r1.world.oracle import Oracle, Weighing
from router_r1.world.simulated_llm import World
from verl.task import TrainingReport
from verl.trainer.launch import load_task_config


@pytest.fixture(scope="module")
def questions(world: World) -> list[Question]:
    return world.knowledge.questions("validation")


def test_prompts_count_where_the_reward_counts_them(
    world: World, embedded_pool: PoolConfig, questions: list[Question]
) -> None:
    """A query has five words; at 20 $ per 1M prompt tokens, Draco's cost 100 more."""
    prices = embedded_pool.prices()
    without = Oracle(world, prices, questions)
    assert without.best_route(("film",), 0.9) == ("Draco",)
    scale = CostScale(0.0, 15.0)
    prompts = {name: 20.0 if name == "Draco" else 0.6 for name in world.llms}
    counted = Oracle(world, prices, questions, Weighing(RewardScales(scale), prompts))
    # Draco: 19 tokens x 0.3 and 5 x 20; Borealis: 52 x 1.2 and 5 x 0.6.
    reward = {"Draco": 0.95 * (0.1 + 0.9 * (1 - math.sqrt(105.7) / 15))}
    reward["Borealis"] = 0.98 * (0.1 + 0.9 * (1 - math.sqrt(65.4) / 15))
    assert reward["Borealis"] > reward["Draco"]
    assert counted.best_route(("film",), 0.9) == ("Borealis",)
    assert counted.single("Draco") == without.single("Draco"), "expectations keep their unit"
    own = Oracle(world, prices, questions, Weighing(prompt_prices=prompts)).scale
    assert own.high > without.scale.high


def test_each_questions_own_prices_count(
    world: World, embedded_pool: PoolConfig, questions: list[Question]
) -> None:
    one_hop = [question for question in questions if question.domains == ("film",)][:2]
    prices = embedded_pool.prices()
    own = {name: prices[name] for name in ("Borealis", "Draco", "Fornax")}
    swapped = own | {"Borealis": prices["Draco"], "Draco": prices["Borealis"]}
    tokens = {name: llm.mean_completion_tokens() for name, llm in world.llms.items()}
    oracle = Oracle(world, prices, one_hop, offered=[own, swapped])
    cheapest = [own["Draco"] * tokens["Draco"], swapped["Borealis"] * tokens["Borealis"]]
    for number, (cost, em) in enumerate(zip(cheapest, (0.95, 0.98), strict=True)):
        asked = oracle.oracle(0.9, among=[number == 0, number == 1])
        assert asked.cost == pytest.approx(cost)
        assert asked.em == pytest.approx(em)
    at_random = [fmean(told[n] * tokens[n] for n in told) for told in (own, swapped)]
    assert oracle.random_routing().cost == pytest.approx(fmean(at_random))
    tripled = {name: 3 * price for name, price in own.items()}
    scales = [Oracle(world, prices, one_hop, offered=[told] * 2).scale for told in (own, tripled)]
    assert scales[1].high == pytest.approx(math.sqrt(3) * scales[0].high)


def test_latency_counts_where_the_reward_weighs_it(
    world: World, embedded_pool: PoolConfig, questions: list[Question]
) -> None:
    prices = embedded_pool.prices()
    assert Oracle(world, prices, questions).best_route(("film",), 0.0) == ("Borealis",)
    # Seconds 0.025 (Borealis), 0.01 (Draco), 0.005 (Fornax), four times over.
    scales = RewardScales(CostScale(0.0, 100.0), CostScale(0.0, 0.4))
    weighed = Oracle(world, prices, questions, Weighing(scales, {}, 0.5, 4.0))
    rewards = {
        name: em * (0.5 + 0.5 * max(0.0, 1 - math.sqrt(4 * seconds) / 0.4))
        for name, em, seconds in (
            ("Borealis", 0.98, 0.025),
            ("Draco", 0.95, 0.01),
            ("Fornax", 0.12, 0.005),
        )
    }
    assert max(rewards, key=rewards.__getitem__) == "Draco"
    assert weighed.best_route(("film",), 0.0) == ("Draco",)
    fast = Oracle(world, prices, questions, Weighing(scales, {}, 0.5, 0.01))
    assert fast.best_route(("film",), 0.0) == ("Borealis",), "all take next to no time"
    own = Oracle(world, prices, questions, Weighing(latency_coe=0.5)).latency_scale
    assert 0.0 < own.low < own.high < math.sqrt(0.06)


@pytest.mark.parametrize("unit", ["completion", "dollars"])
def test_the_end_table_follows_the_runs_unit(tmp_path: Path, unit: str) -> None:
    """Of the four tiers the cheap ones are left at a cost_coe where prompts make all dear."""
    _, config = load_task_config(
        ["recipe=quickstart_tiers", "cost_coe=0.6", f"reward.cost_unit={unit}"]
    )
    for llm in config.pool.llms:
        llm.prompt_price = 30.0 if llm.name in ("Kepler", "Lyra") else 0.0
    report = TrainingReport(tmp_path, None, None, {"train": 1.0, "total": 2.0})
    write_summary(report, config, 0.0, Ledger(config.pool.simulated_names), RewardScales())
    oracle = json.loads((tmp_path / "summary.json").read_text())["oracle"]
    assert (oracle["cost"] == pytest.approx(24.2, abs=0.1)) == (unit == "completion")
