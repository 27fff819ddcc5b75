"""Another agent on the framework alone: engine, critic, update, validation and records."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from examples.calculator.prepare import prepare
from examples.calculator.task import Calculation, CalculatorTask
from tests.integration.commands import ROOT
from verl.config.ppo import PPOConfig
from verl.trainer.launch import load_task_config
from verl.trainer.ppo.rollout_log import read_trajectories
from verl.trainer.ppo.trainer import RayPPOTrainer
from verl.trainer.run_folder import VALIDATION_FOLDER, trajectories_file
from verl.utils.dataset import load_datasets
from verl.utils.tracking import Tracking

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.engine]
STEPS = 2


def test_a_calculator_trains_on_the_framework_alone(tmp_path: Path) -> None:
    prepare(tmp_path / "data")
    task_class, config = load_task_config(
        [
            *("--config-dir", str(ROOT / "examples" / "calculator"), "--config-name", "calculator"),
            *(f"data.train_files=[{tmp_path}/data/train.parquet]", "trainer.logger=[jsonl]"),
            *(f"data.val_files=[{tmp_path}/data/validation.parquet]", "data.train_batch_size=16"),
            f"actor_rollout_ref.model.path={tmp_path}/data/policy",
            *(f"trainer.default_local_dir={tmp_path}", f"trainer.total_training_steps={STEPS}"),
            "actor_rollout_ref.actor.entropy_coeff=0.01",  # a gradient also where no sum was right
        ]
    )
    assert task_class is CalculatorTask
    assert type(config) is PPOConfig
    task = task_class(config)
    data = load_datasets(config.data, task.messages, task.check_row)
    tracking = Tracking(["jsonl"], tmp_path, "tests", "calculator", {})
    trainer = RayPPOTrainer(config, task, data, tracking)
    try:
        trainer.init_workers()
        trainer.fit()
    finally:
        trainer.shutdown()
        tracking.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "critic/score/mean" in line]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    for line in steps:
        assert line["rollout/log_prob_gap"] < 1e-5, "engine and trainer compute the same"
        assert line["actor/grad_norm"] > 0
        assert math.isfinite(line["critic/vf_loss"])
        assert line["env/number_of_sums"] >= 0
    assert any(name.startswith("val/test_score/metric/sums") for line in lines for name in line)
    records = read_trajectories(trajectories_file(tmp_path / VALIDATION_FOLDER, 0), Calculation)
    assert len(records) == len(data.validation)
    assert all(record.prompt == f"{record.prompt[0]}+{record.prompt[2]}=" for record in records)
    assert (tmp_path / "curves.png").is_file()
