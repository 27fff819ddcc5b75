"""Every supported family trains: engine, critic, update and weight sync, on random weights.

Qwen2 is the quickstart's own, which the tests of training runs and of the weight sync train.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.families import create_family
from verl.trainer.launch import load_task_config
from verl.trainer.ppo.trainer import RayPPOTrainer
from verl.utils.dataset import load_datasets
from verl.utils.tracking import Tracking

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.engine]
STEPS = 2


def train(model: Path, folder: Path, ranks: int) -> list[dict[str, Any]]:
    """Two PPO steps on ``model``, packed; the metrics of each."""
    task_class, config = load_task_config(
        [
            *("recipe=quickstart", "cold_start=null", f"actor_rollout_ref.model.path={model}"),
            *("actor_rollout_ref.model.use_remove_padding=true", "pool.request_timeout_s=2"),
            *("data.train_batch_size=8", "actor_rollout_ref.actor.ppo_mini_batch_size=4"),
            *("critic.ppo_mini_batch_size=4", "critic.warmup_steps=0"),
            "actor_rollout_ref.actor.optim.lr=1e-3",
            # Random text earns the same penalty everywhere, from which PPO alone learns nothing.
            "actor_rollout_ref.actor.entropy_coeff=0.01",
            *(f"trainer.total_training_steps={STEPS}", "trainer.test_freq=-1"),
            f"trainer.n_gpus_per_node={ranks}",
            *("trainer.val_before_train=false", "data.val_data_num=4", "trainer.logger=[jsonl]"),
            *(f"trainer.default_local_dir={folder}", f"world.folder={folder}/world"),
            "world.train_questions=64",
        ]
    )
    task = task_class(config)
    task.surroundings().check()
    data = load_datasets(config.data, task.messages, task.check_row)
    with task.surroundings().running():
        tracking = Tracking(["jsonl"], folder, "tests", "families", {})
        trainer = RayPPOTrainer(config, task, data, tracking)
        try:
            trainer.init_workers()
            trainer.fit()
        finally:
            trainer.shutdown()
            tracking.close()
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [metrics for metrics in map(json.loads, lines) if "critic/score/mean" in metrics]


@pytest.mark.parametrize(("family", "ranks"), [("qwen3", 1), ("llama3.2", 1), ("gemma3", 2)])
def test_a_family_trains_with_engine_and_critic(
    family: str, ranks: int, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = create_family(family, tokenizer, tmp_path / "model")
    steps = train(model, tmp_path / "run", ranks)
    assert [metrics["step"] for metrics in steps] == list(range(1, STEPS + 1))
    for metrics in steps:
        assert metrics["rollout/log_prob_gap"] < 1e-5, "engine and trainer compute the same"
        assert metrics["actor/grad_norm"] > 0
        assert math.isfinite(metrics["critic/vf_loss"])
        assert metrics["critic/grad_norm"] > 0
    saved = tmp_path / "run" / "checkpoints" / f"global_step_{STEPS}"
    AutoModelForCausalLM.from_pretrained(saved / "actor")
    before = load_file(model / "model.safetensors")
    after = load_file(saved / "actor" / "model.safetensors")
    assert set(after) == set(before)
    matrices = [name for name in after if after[name].dim() == 2]
    assert all(not torch.equal(after[name], before[name]) for name in matrices)
    assert {"score.weight", "score.bias"} <= set(load_file(saved / "critic" / "model.safetensors"))
