"""The end table of a run: what it computes from the embedded world's own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from router_r1.pool.ledger import Ledger
from router_r1.reward import CostScale
from router_r1.summary import write_summary
from verl.task import TrainingReport
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
    write_summary(report, config, 0.0, Ledger(config.pool.simulated_names), scale)
    oracle = json.loads((tmp_path / "summary.json").read_text())["oracle"]
    assert oracle["em"] == pytest.approx(em, abs=0.001)
    assert oracle["cost"] == pytest.approx(cost, abs=0.1)
