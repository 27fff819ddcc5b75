"""All engines of a run, as one: least-loaded first, a session stays on its replica.

Implements :class:`verl.interfaces.GenerationEngine` on the driver.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from verl.config.rollout import RolloutConfig
from verl.interfaces import GenerationOutput, OnTokens, SamplingParams
from verl.single_controller.arrival import NotArrivedError, in_order_of_arrival
from verl.single_controller.rank_device import RankDevice
from verl.single_controller.resource_pool import RayResourcePool
from verl.utils.surroundings import SurroundingsError
from verl.workers.rollout.errors import RolloutEngineError
from verl.workers.rollout.placement import own_gpus, place_beside
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
        ranks: of the trainer, whose nodes and GPUs the engines share, in rank order; without them
            the engines reserve GPUs of their own, or run anywhere on CPUs.

    Raises:
        ConfigError: if the engines do not fit beside ``ranks``.
        ResourceError: if the cluster does not grant them GPUs of their own.
    """

    def __init__(
        self,
        config: RolloutConfig,
        model_path: str,
        device: str,
        max_model_len: int,
        seed: int = 0,
        ranks: Sequence[RankDevice] | None = None,
    ) -> None:
        self._sleeps = device == "cuda" and config.free_cache_engine
        settings = ReplicaSettings.from_config(
            config, model_path, device, max_model_len, seed, self._sleeps
        )
        self._start_timeout_s = config.start_timeout_s
        self._pool: RayResourcePool | None = None
        self._places: list[str] = []
        self._actors: list[Any] = []
        actor_class = ray.remote(VLLMReplica)
        for index, (place, options) in enumerate(self._find_places(config, device, ranks)):
            self._places.append(place)
            self._actors.append(
                actor_class.options(max_concurrency=_MAX_CALLS_IN_FLIGHT, **options).remote(
                    # Requests without a seed of their own must not draw alike in two replicas.
                    replace(settings, seed=settings.seed + index)
                )
            )
        self.weight_format = WeightFormat(
            config.dtype, config.update_weights_bucket_megabytes * 2**20
        )
        self._load = [0] * len(self._actors)
        self._replica_of: dict[str, int] = {}

    def _find_places(
        self, config: RolloutConfig, device: str, ranks: Sequence[RankDevice] | None
    ) -> list[tuple[str, dict[str, Any]]]:
        """A description and the Ray options of each engine's place."""
        tensor_parallel_size = config.tensor_model_parallel_size
        if ranks is not None:
            return [
                (str(place), place.actor_options())
                for place in place_beside(ranks, config.num_replicas, tensor_parallel_size)
            ]
        if device == "cpu":
            count = 1 if config.num_replicas == -1 else config.num_replicas
            return [("a CPU", {"num_cpus": 0})] * count
        self._pool = own_gpus(config.num_replicas, tensor_parallel_size)
        return [
            (
                f"{tensor_parallel_size} GPU(s) of its own on {rank.host}",
                {
                    "num_cpus": 1,
                    "num_gpus": tensor_parallel_size,
                    "scheduling_strategy": PlacementGroupSchedulingStrategy(group, 0),
                },
            )
            for group, rank in zip(
                self._pool.placement_groups(), self._pool.reserved_ranks(), strict=True
            )
        ]

    def wait_until_ready(self) -> None:
        """Blocks until every engine runs.

        Raises:
            RolloutEngineError: if one does not start, or not within ``rollout.start_timeout_s``.
        """
        references = [actor.ready.remote() for actor in self._actors]
        try:
            for index in in_order_of_arrival(references, self._start_timeout_s):
                self._check_started(index, references[index])
        except NotArrivedError as late:
            for index in late.pending:  # they could not answer a call to shut down
                ray.kill(self._actors[index], no_restart=True)
            self.shutdown()
            raise RolloutEngineError(self._not_up(late.pending)) from late

    def _check_started(self, index: int, reference: Any) -> None:
        try:
            ray.get(reference)
        except RayError as error:
            self.shutdown()
            raise RolloutEngineError(
                f"rollout replica {index} ({self._places[index]}) did not start: {_reason(error)}"
            ) from error

    def _not_up(self, pending: list[int]) -> str:
        late = ", ".join(f"{index} ({self._places[index]})" for index in pending)
        up = [index for index in range(len(self._places)) if index not in pending]
        return (
            f"rollout replicas did not start within {self._start_timeout_s:g} s: {late}; up: "
            f"{up or 'none'}. Raise actor_rollout_ref.rollout.start_timeout_s if loading is slow; "
            "VERL_WORKER_LOGS=1 shows what the engines say"
        )

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
        if self._pool is not None:
            self._pool.release()


def _reason(error: RayError) -> str:
    """What the machine lacks, in one line; of any other failure all that Ray knows."""
    last_line = str(error).strip().rpartition("\n")[2]
    kind, _, message = last_line.partition(": ")
    return message if kind.endswith(SurroundingsError.__name__) else str(error)
