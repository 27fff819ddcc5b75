"""Calls that all of several engines get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from verl.workers.rollout.errors import RolloutEngineError
from verl.workers.rollout.replica import Replica
from verl.workers.weight_transfer.buckets import WeightFormat


class EngineCalls:
    """Weights and memory of engines. Each method raises :class:`RolloutEngineError` if one fails.

    Args:
        replicas: the engines.
        weight_format: that they take weights in.
        sleeps: whether they share their GPUs with the trainer.
    """

    def __init__(
        self, replicas: Sequence[Replica], weight_format: WeightFormat, sleeps: bool
    ) -> None:
        self._replicas = list(replicas)
        self.weight_format = weight_format
        self._sleeps = sleeps

    def start_weight_update(self) -> set[str]:
        """Every engine prepares for buckets; returns the memories that they read them from."""
        return {memory for memories in self._all("start_weight_update") for memory in memories}

    def load_weights(self, bucket: dict[str, Any]) -> None:
        """Every engine loads one bucket, as :class:`FilledBucket` has it; it may be overwritten
        afterwards."""
        self._all("load_weights", bucket)

    def finish_weight_update(self) -> None:
        """Every engine computes with the new weights from now on."""
        self._all("finish_weight_update")

    def sleep(self) -> None:
        """Frees the GPU for the trainer, if the engines share it."""
        if self._sleeps:
            self._all("sleep")

    def wake_up(self, tag: str) -> None:
        """Takes the GPU back for "weights" or "kv_cache", if the engines share it."""
        if self._sleeps:
            self._all("wake_up", tag)

    def _all(self, method: str, *args: Any) -> list[Any]:
        references = [getattr(replica.actor, method).remote(*args) for replica in self._replicas]
        try:
            return list(ray.get(references))
        except RayError as error:
            raise RolloutEngineError(f"{method} failed in the rollout engine: {error}") from error
