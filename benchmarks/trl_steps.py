"""Seconds of steps of TRL's GRPOTrainer; runs in the environment that benchmarks.peer_trl makes.

    python -m benchmarks.trl_steps SETTINGS.json

The settings hold the policy's folder, the prompts, and the numbers that both sides are given.
Prints one JSON list: seconds between one batch of samples and the next, each with all its updates.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.distinct_words import distinct_words


class Clock(TrainerCallback):
    """When each update was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Notes the time."""
        self.times.append(time.monotonic())


def reward(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    """Of every sample of a batch."""
    return [distinct_words(message["content"]) for (message,) in completions]


def main(settings: dict[str, Any]) -> list[float]:
    """Trains; seconds of each batch but the first."""
    torch.set_num_threads(settings["threads"])
    mini_batches = settings["samples"] // settings["mini_batch"]
    updates = mini_batches * settings["epochs"]
    policy = settings["policy"]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=settings["mini_batch"],
                steps_per_generation=mini_batches,
                num_iterations=settings["epochs"],
                num_generations=settings["group"],
                max_completion_length=settings["tokens"],
                temperature=1.0,
                beta=0.0,
                learning_rate=settings["lr"],
                lr_scheduler_type="constant",
                max_grad_norm=1.0,
                max_steps=updates * settings["batches"],
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(
                [{"prompt": [{"role": "user", "content": text}]} for text in settings["prompts"]]
            ),
            processing_class=AutoTokenizer.from_pretrained(policy),
            callbacks=[clock],
        ).train()
    ends = clock.times[updates - 1 :: updates]
    return [after - before for before, after in itertools.pairwise(ends)]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))) + "\n")
