"""The end table of a run: what it computes from the embedded world's own numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from router_r1.pool.ledger import Ledger
from router_r1.reward import CostScale
from router_r1.reward.cost import RewardScales
from router_r1.summary import write_summary
from router_r1.world.simulated_llm import World
from verl.task import TrainingReport, ValidationResult
from verl.trainer.launch import load_task_config


@pytest.mark.parametrize(
    ("scale", "em", "cost"),
    [
        (None, 0.811, 24.2),
        (CostScale(0.8, 1e6), 0.972, 113.6),  # by which every cost is cheap
    ],
)
def test_the_oracle_weighs_costs_by_the_runs_own_scale(
    tmp_path: Path, scale: CostScale | None, em: float, cost: float
) -> None:
    _, config = load_task_config(["recipe=quickstart_tiers", "cost_coe=0.6"])
    report = TrainingReport(tmp_path, None, None, {"train": 1.0, "total": 2.0})
    write_summary(report, config, 0.0, Ledger(config.pool.simulated_names), RewardScales(scale))
    oracle = json.loads((tmp_path / "summary.json").read_text())["oracle"]
    assert oracle["em"] == pytest.approx(em, abs=0.001)
    assert oracle["cost"] == pytest.approx(cost, abs=0.1)


def test_the_oracle_and_chance_choose_from_what_each_question_is_offered(tmp_path: Path) -> None:
    _, config = load_task_config(["recipe=quickstart_pools"])
    report = TrainingReport(tmp_path, None, None, {"train": 1.0, "total": 2.0})
    write_summary(report, config, 0.0, Ledger(config.pool.simulated_names), RewardScales())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["best_single"] is None, "no LLM is offered to all"
    assert summary["oracle"]["em"] == pytest.approx(0.6 * 0.97 + 0.4 * 0.97**2, abs=0.01)
    # Each domain is known to half of the LLMs that may be offered.
    hop = (0.97 + 0.06) / 2
    assert summary["random"]["em"] == pytest.approx(0.6 * hop + 0.4 * hop**2, abs=0.03)
    # Prices are the questions' own: the pool's times exp(u), u uniform in [-1, 1]. The oracle asks
    # the cheaper of the two that know, whose factor has the mean (e - 3/e) / 2.
    assert config.world is not None
    world = World(config.world, config.pool.simulated_names)
    call = 3.0 * world.llms["Orion"].mean_completion_tokens()
    random_cost, oracle_cost = (
        summary[name]["cost"] / (call * summary[name]["calls"]) for name in ("random", "oracle")
    )
    assert random_cost == pytest.approx(math.sinh(1), rel=0.05)
    assert oracle_cost == pytest.approx((math.e - 3 / math.e) / 2, rel=0.05)


def test_what_the_world_does_not_play_has_no_oracle(tmp_path: Path) -> None:
    _, config = load_task_config(["recipe=quickstart", "pool=tools", "offer={size: 3}"])
    report = TrainingReport(tmp_path, None, None, {"train": 1.0, "total": 2.0})
    names = [llm.name for llm in config.pool.llms]
    write_summary(report, config, 0.0, Ledger(names), RewardScales())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["oracle"] is None
    assert summary["random"] is None


def test_a_router_of_several_weights_is_told_by_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, config = load_task_config(["recipe=quickstart_tradeoff", "data.val_data_num=3"])
    columns = {
        "cost_coe": [0.0, 0.6, 0.6],
        "em": [1.0, 0.0, 1.0],
        "f1": [1.0, 0.0, 1.0],
        "cost": [80.0, 10.0, 20.0],
        "reward": [1.0, 0.0, 0.7],
        "route_cnt": [1.0, 1.0, 1.0],
    }
    arrays = {name: np.array(values) for name, values in columns.items()}
    result = ValidationResult(40, np.array(["world_onehop"] * 3), arrays)
    report = TrainingReport(tmp_path, None, result, {"train": 1.0, "total": 2.0})
    write_summary(report, config, 0.0, Ledger(config.pool.simulated_names), RewardScales())
    first, second = json.loads((tmp_path / "summary.json").read_text())["by_cost_coe"]
    assert (first["cost_coe"], first["questions"], first["em"], first["cost"]) == (0, 1, 1, 80)
    assert (second["cost_coe"], second["questions"]) == (0.6, 2)
    assert (second["em"], second["cost"], second["reward"]) == (0.5, 15.0, 0.35)
    world = World(config.world, config.pool.simulated_names)
    questions = world.knowledge.questions("validation")[:3]
    hops = [len(question.hops) for question in questions]
    assert first["oracle_em"] == pytest.approx(0.98 ** hops[0])
    assert first["oracle_cost"] == pytest.approx(80.6 * hops[0])
    assert second["oracle_cost"] <= 38.0 * max(hops[1:]), "of its own questions, by its weight"
    assert "By what cost counts" in capsys.readouterr().out
