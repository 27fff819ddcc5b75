"""All engines of a run, as one: least-loaded first, a session stays on its replica.

Implements :class:`verl.interfaces.GenerationEngine` on the driver.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from verl.config.rollout import RolloutConfig
from verl.interfaces import GenerationOutput, OnTokens, SamplingParams
from verl.workers.rollout.errors import RolloutEngineError
from verl.workers.rollout.vllm_replica import ReplicaSettings, VLLMReplica
from verl.workers.weight_transfer.buckets import WeightFormat

logger = logging.getLogger(__name__)
_MAX_CALLS_IN_FLIGHT = 4096


class RolloutReplicas:
    """Starts the engines and spreads requests over them.

    Args:
        config: of the engine.
        model_path: first weights.
        device: "cpu" or "cuda".
        max_model_len: longest context, tokens.
        seed: of the engines' own random stream.
        placement_groups: of the trainer, whose GPUs the engines time-share; without one the
            engines have GPUs of their own, or run on the CPU.
    """

    def __init__(
        self,
        config: RolloutConfig,
        model_path: str,
        device: str,
        max_model_len: int,
        seed: int = 0,
        placement_groups: list[PlacementGroup] | None = None,
    ) -> None:
        self._sleeps = device == "cuda" and config.free_cache_engine
        settings = ReplicaSettings.from_config(
            config, model_path, device, max_model_len, seed, self._sleeps
        )
        actor_class = ray.remote(VLLMReplica)
        self._actors = [
            actor_class.options(
                max_concurrency=_MAX_CALLS_IN_FLIGHT,
                **_placement(placement_groups, i, config, device),
            ).remote(settings)
            for i in range(_replica_count(config, placement_groups, device))
        ]
        self.weight_format = WeightFormat(
            config.dtype, config.update_weights_bucket_megabytes * 2**20
        )
        self._load = [0] * len(self._actors)
        self._replica_of: dict[str, int] = {}

    def wait_until_ready(self) -> None:
        """Blocks until every engine runs.

        Raises:
            RolloutEngineError: if one does not start.
        """
        try:
            ray.get([actor.ready.remote() for actor in self._actors])
        except RayError as error:
            self.shutdown()
            raise RolloutEngineError(f"the rollout engine did not start: {error}") from error

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        session_id: str,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        """See :class:`verl.interfaces.GenerationEngine`; ``on_tokens`` gets all ids at the end.

        Raises:
            RolloutEngineError: if the engine fails or its process dies.
        """
        index = self._replica_of.get(session_id)
        if index is None:
            index = min(range(len(self._load)), key=self._load.__getitem__)
            self._replica_of[session_id] = index
        self._load[index] += 1
        try:
            output: GenerationOutput = await self._actors[index].generate.remote(
                list(prompt_ids), sampling
            )
            if on_tokens is not None:
                on_tokens(output.token_ids)
            return output
        except RayError as error:
            raise RolloutEngineError(f"rollout replica {index} failed: {error}") from error
        finally:
            self._load[index] -= 1

    def end_sessions(self) -> None:
        """Forgets which session is where; call it between rollouts."""
        self._replica_of.clear()

    def start_weight_update(self) -> set[str]:
        """Every engine prepares for buckets; returns the memories that they read them from."""
        return {memory for memories in self._all("start_weight_update") for memory in memories}

    def load_weights(self, bucket: dict[str, Any]) -> None:
        """Every engine loads one bucket, see :meth:`FilledBucket.to_message`; it may be overwritten
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
        try:
            return list(ray.get([getattr(actor, method).remote(*args) for actor in self._actors]))
        except RayError as error:
            raise RolloutEngineError(f"{method} failed in the rollout engine: {error}") from error

    def shutdown(self) -> None:
        """Ends all engines; first gently, so that vLLM ends its own processes."""
        references = [actor.shutdown.remote() for actor in self._actors]
        ray.wait(references, num_returns=len(references), timeout=10)
        for actor in self._actors:
            ray.kill(actor, no_restart=True)
        self._actors = []


def _replica_count(
    config: RolloutConfig, placement_groups: list[PlacementGroup] | None, device: str
) -> int:
    if config.num_replicas != -1:
        return config.num_replicas
    if device == "cpu":
        return 1
    if placement_groups is None:
        gpus = int(ray.cluster_resources().get("GPU", 0))
    else:
        gpus = sum(group.bundle_count for group in placement_groups)
    return max(1, gpus // config.tensor_model_parallel_size)


def _placement(
    placement_groups: list[PlacementGroup] | None, index: int, config: RolloutConfig, device: str
) -> dict[str, Any]:
    """Ray options of replica ``index``: with a trainer it lies on the bundle of the GPU it shares;
    alone on CUDA it takes GPUs of its own."""
    if placement_groups is None:
        gpus_of_its_own = config.tensor_model_parallel_size if device == "cuda" else 0
        return {"num_cpus": 0, "num_gpus": gpus_of_its_own}
    slots = [(g, b) for g in placement_groups for b in range(g.bundle_count)]
    first = index * config.tensor_model_parallel_size
    group, _ = slots[first]
    gpus = [bundle for g, bundle in slots[first : first + config.tensor_model_parallel_size]]
    return {
        "num_cpus": 0,
        "num_gpus": 0,
        "scheduling_strategy": PlacementGroupSchedulingStrategy(group, gpus[0]),
        # The trainer's process owns the GPU in Ray's books; the engine names it itself.
        "runtime_env": {
            "env_vars": {
                "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
                "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)),
            }
        },
    }
