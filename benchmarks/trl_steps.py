"""Seconds of steps of TRL's GRPOTrainer; runs in the environment that benchmarks.peer_trl makes.

    python -m benchmarks.trl_steps SETTINGS.json

The settings hold the policy's folder, the prompts, and the numbers that both sides are given.
Prints one JSON object of two lists without the first batch: "step", seconds between the end of one
batch's updates and that of the next; "batch", the part of them in which the batch is made: samples,
rewards, old log-probs, advantages.
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


class Timed(GRPOTrainer):
    """Notes how long each batch took to be made."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.batch_seconds: list[float] = []

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        start = time.monotonic()
        batch = super()._generate_and_score_completions(inputs)
        self.batch_seconds.append(time.monotonic() - start)
        return batch


def reward(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    """Of every sample of a batch."""
    return [distinct_words(message["content"]) for (message,) in completions]


def main(settings: dict[str, Any]) -> dict[str, list[float]]:
    """Trains; seconds of each batch but the first, by part."""
    torch.set_num_threads(settings["threads"])
    mini_batches = settings["samples"] // settings["mini_batch"]
    updates = mini_batches * settings["epochs"]
    policy = settings["policy"]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Timed(
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
        )
        trainer.train()
    ends = clock.times[updates - 1 :: updates]
    steps = [after - before for before, after in itertools.pairwise(ends)]
    return {"step": steps, "batch": trainer.batch_seconds[1:]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))) + "\n")
