"""Epochs and mini-batches of one PPO update."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from verl.protocol import DataProto

# What the workers need; the rest of a batch stays on the driver.
ACTOR_COLUMNS = (
    "input_ids",
    "attention_mask",
    "responses",
    "response_mask",
    "old_log_probs",
    "advantages",
)
CRITIC_COLUMNS = (
    "input_ids",
    "attention_mask",
    "responses",
    "response_mask",
    "values",
    "returns",
)
SCORING_COLUMNS = ("input_ids", "attention_mask", "responses", "response_mask")


def mini_batches(
    batch: DataProto, size: int, epochs: int, shuffle: bool, rng: np.random.Generator
) -> Iterator[DataProto]:
    """Every sample once per epoch, ``size`` at a time."""
    for _ in range(epochs):
        order = rng.permutation(len(batch)) if shuffle else np.arange(len(batch))
        yield from batch[order].split(size)


def run_update(
    update: Callable[[DataProto], DataProto], parts: Iterator[DataProto]
) -> dict[str, float]:
    """Calls ``update`` on each mini-batch; the mean of its metrics."""
    collected: dict[str, list[float]] = {}
    for part in parts:
        for name, value in update(part).meta_info["metrics"].items():
            collected.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in collected.items()}
