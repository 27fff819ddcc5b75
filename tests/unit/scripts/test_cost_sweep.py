"""scripts/cost_sweep.sh gives the right commands; run on a copy whose commands only note them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOTE = '#!/usr/bin/env bash\necho "$(basename "$0") $*" >> "{log}"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script, and recorders in place of what it calls."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("cost_sweep.sh", "recipe.sh"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    for name in ("train.sh", "test.sh", ".venv/bin/python"):
        (tmp_path / name).write_text(NOTE.format(log=tmp_path / "log"))
        (tmp_path / name).chmod(0o755)
    return tmp_path


def sweep(checkout: Path, *arguments: str, **environment: str) -> list[str]:
    """Commands given, in order."""
    inherited = {
        k: v for k, v in os.environ.items() if k not in ("SWEEP", "COST_COES", "ONE_ROUTER")
    }
    subprocess.run(
        ["bash", str(checkout / "scripts" / "cost_sweep.sh"), *arguments],
        env={**inherited, **environment},
        check=True,
    )
    return (checkout / "log").read_text().splitlines()


def test_one_router_per_cost_coe_then_one_comparison(checkout: Path) -> None:
    commands = sweep(checkout)
    assert [c.split()[0] for c in commands] == ["train.sh", "test.sh"] * 4 + ["python"]
    assert commands[2] == "train.sh cost_coe=0.3 trainer.experiment_name=sweep_0.3"
    assert commands[3] == "test.sh cost_coe=0.3 trainer.experiment_name=sweep_0.3"
    points = " ".join(f"--sweep {a}=outputs/sweep_{a}/eval" for a in ("0", "0.3", "0.6", "0.9"))
    assert commands[-1] == (
        f"python -m router_r1.evaluation.compare {points} --output outputs/sweep"
    )


def test_overrides_reach_training_and_scoring_options_the_comparison(checkout: Path) -> None:
    commands = sweep(
        checkout, "trainer.seed=1", "--", "--seed", "3", COST_COES="0.5", SWEEP="seed1"
    )
    assert commands == [
        "train.sh trainer.seed=1 cost_coe=0.5 trainer.experiment_name=seed1_0.5",
        "test.sh trainer.seed=1 cost_coe=0.5 trainer.experiment_name=seed1_0.5",
        "python -m router_r1.evaluation.compare --seed 3 --sweep 0.5=outputs/seed1_0.5/eval "
        "--output outputs/seed1",
    ]


def test_one_router_is_trained_once_and_told_each_value(checkout: Path) -> None:
    recipe = "recipe=quickstart_tradeoff"
    commands = sweep(checkout, recipe, ONE_ROUTER="1", COST_COES="0 0.6", SWEEP="told")
    router, told = "trainer.experiment_name=told_router", "state_cost_coe=true"
    folder = "evaluation.folder=outputs/told_router/eval_"
    assert commands == [
        f"train.sh {recipe} {told} {router}",
        f"test.sh {recipe} {told} cost_coe=0 {router} {folder}0",
        f"test.sh {recipe} {told} cost_coe=0.6 {router} {folder}0.6",
        "python -m router_r1.evaluation.compare --sweep 0=outputs/told_router/eval_0 "
        "--sweep 0.6=outputs/told_router/eval_0.6 --output outputs/told",
    ]


def test_what_is_trained_is_not_trained_again(checkout: Path) -> None:
    (checkout / "outputs" / "sweep_0").mkdir(parents=True)
    (checkout / "outputs" / "sweep_0" / "summary.json").write_text("{}")
    commands = sweep(checkout, COST_COES="0 0.9")
    assert [c.split()[0] for c in commands] == ["test.sh", "train.sh", "test.sh", "python"]
