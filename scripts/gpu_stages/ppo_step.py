"""Two PPO steps by the project's own command: Ray, FSDP2, vLLM, a real HTTP pool."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from gpu_stages.errors import StageError, require
from gpu_stages.random_policy import write_policy

_SHOWN = ("rollout/log_prob_gap", "actor/grad_norm", "critic/vf_loss", "timing_s/step")


def run(device: torch.device, record: Callable[[str, Any], None]) -> None:
    """Needs everything that training needs."""
    try:
        import ray  # noqa: F401
        import vllm  # noqa: F401
    except ImportError as error:
        raise StageError(f"not run: {error}") from error
    dtype = "bfloat16" if device.type == "cuda" else "float32"
    with TemporaryDirectory() as name:
        folder = Path(name)
        policy = write_policy(folder / "policy")
        start = time.perf_counter()
        completed = subprocess.run(
            [
                *(sys.executable, "-m", "verl.trainer.main_ppo", "recipe=quickstart"),
                *("cold_start=null", f"actor_rollout_ref.model.path={policy}"),
                *(f"trainer.device={device.type}", "trainer.n_gpus_per_node=1"),
                *(
                    f"actor_rollout_ref.model.dtype={dtype}",
                    f"actor_rollout_ref.rollout.dtype={dtype}",
                ),
                "actor_rollout_ref.model.use_remove_padding=true",
                *("trainer.total_training_steps=2", "critic.warmup_steps=0"),
                "trainer.val_before_train=false",
                *("trainer.test_freq=-1", "data.train_batch_size=64", "data.val_data_num=16"),
                *(f"trainer.default_local_dir={folder}/run", f"world.folder={folder}/world"),
                "trainer.logger=[console,jsonl]",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        record("command_s", time.perf_counter() - start)
        require(completed.returncode == 0, (completed.stdout + completed.stderr)[-1500:])
        lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        steps = [m for m in map(json.loads, lines) if "critic/score/mean" in m]
        for metrics in steps:
            for key in (*_SHOWN, *sorted(k for k in metrics if k.startswith("timing_s/"))):
                record(f"step_{metrics['step']}/{key}", metrics[key])
            require(metrics["rollout/log_prob_gap"] < 0.05, "engine and trainer disagree")
