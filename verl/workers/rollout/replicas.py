"""All engines of a run, as one: least-loaded first, a session stays on its replica.

Guarantees: an engine whose process dies or hangs is started again in its place, with the weights
that the others have; whoever asks for generations does not notice, until that has happened too
often.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from verl.config.rollout import RolloutConfig
from verl.interfaces import GenerationOutput, OnTokens, SamplingParams
from verl.single_controller.arrival import NotArrivedError, in_order_of_arrival
from verl.single_controller.rank_device import RankDevice
from verl.single_controller.resource_pool import RayResourcePool
from verl.workers.rollout.errors import RolloutEngineError
from verl.workers.rollout.placement import own_gpus, place_beside
from verl.workers.rollout.replica import Replica, RestartLimit, reason_of
from verl.workers.rollout.replica_actor import VLLMReplicaActor
from verl.workers.rollout.vllm_replica import ReplicaSettings
from verl.workers.weight_transfer.buckets import WeightFormat

_MAX_CALLS_IN_FLIGHT = 4096


class EngineCalls:
    """Weights and memory of engines, which take weights in ``weight_format``; ``sleeps``: they
    share their GPUs with the trainer. Each method raises :class:`RolloutEngineError` if one
    fails."""

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
        """Every engine loads one bucket, the plain values of a
        :class:`~verl.workers.weight_transfer.buckets.FilledBucket`; it may be overwritten
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


class RolloutReplicas(EngineCalls):
    """Implements :class:`verl.interfaces.GenerationEngine` on the driver.

    Args:
        model_path: first weights.
        max_model_len: longest context, tokens.
        seed: of the engines' own random stream.
        ranks: of the trainer, whose nodes and GPUs the engines share, in rank order; without them
            the engines reserve GPUs of their own, or run anywhere on CPUs.

    Attributes:
        refresh: gives an engine that was started again during a rollout the weights of the others;
            None where ``model_path`` holds them.
        weights_lock: whoever changes the weights that ``refresh`` gives, or gives them, holds it.

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
        sleeps = device == "cuda" and config.free_cache_engine
        settings = ReplicaSettings.from_config(
            config, model_path, device, max_model_len, seed, sleeps
        )
        self._start_timeout_s = config.start_timeout_s
        self._pool: RayResourcePool | None = None
        places = self._find_places(config, device, ranks)
        self._places = [f"{index} ({place})" for index, (place, _) in enumerate(places)]
        replicas = [
            Replica(
                f"rollout replica {self._places[index]}",
                # Requests without a seed of their own must not draw alike in two replicas.
                partial(_start, options, replace(settings, seed=settings.seed + index)),
                self._replace,
                config.generation_timeout_s,
            )
            for index, (_, options) in enumerate(places)
        ]
        weight_format = WeightFormat(config.dtype, config.update_weights_bucket_megabytes * 2**20)
        super().__init__(replicas, weight_format, sleeps)
        self.refresh: Callable[[EngineCalls], None] | None = None
        self.weights_lock = threading.Lock()
        self._restarts = RestartLimit(config.max_restarts)
        self._replica_of: dict[str, Replica] = {}

    def _find_places(
        self, config: RolloutConfig, device: str, ranks: Sequence[RankDevice] | None
    ) -> list[tuple[str, dict[str, Any]]]:
        """A description and the Ray options of each engine's place."""
        size = config.tensor_model_parallel_size
        if ranks is not None:
            places = place_beside(ranks, config.num_replicas, size)
            return [(str(place), place.actor_options()) for place in places]
        if device == "cpu":
            count = 1 if config.num_replicas == -1 else config.num_replicas
            return [("a CPU", {"num_cpus": 0})] * count
        self._pool = own_gpus(config.num_replicas, size)
        groups, reserved = self._pool.placement_groups(), self._pool.reserved_ranks()
        return [
            (
                f"{size} GPU(s) of its own on {rank.host}",
                {
                    "num_cpus": 1,
                    "num_gpus": size,
                    "scheduling_strategy": PlacementGroupSchedulingStrategy(group, 0),
                },
            )
            for group, rank in zip(groups, reserved, strict=True)
        ]

    def wait_until_ready(self) -> None:
        """Blocks until every engine runs; :class:`RolloutEngineError` if one does not start, or not
        within ``rollout.start_timeout_s``."""
        replicas = self._replicas
        references = [replica.actor.ready.remote() for replica in replicas]
        try:
            for index in in_order_of_arrival(references, self._start_timeout_s):
                try:
                    ray.get(references[index])
                except RayError as error:
                    self.shutdown()
                    failed = f"{replicas[index].name} did not start: {reason_of(error)}"
                    raise RolloutEngineError(failed) from error
        except NotArrivedError as late:
            for index in late.pending:  # they could not answer a call to shut down
                replicas[index].close()
            self.shutdown()
            up = [index for index in range(len(replicas)) if index not in late.pending]
            raise RolloutEngineError(
                f"rollout replicas did not start within {self._start_timeout_s:g} s: "
                f"{', '.join(self._places[index] for index in late.pending)}; up: {up or 'none'}. "
                "Raise actor_rollout_ref.rollout.start_timeout_s if loading is slow; "
                "VERL_WORKER_LOGS=1 shows what the engines say"
            ) from late

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        session_id: str,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        """See :class:`verl.interfaces.GenerationEngine`; ``on_tokens`` gets all ids at the end.

        Raises:
            RolloutEngineError: if the engine refuses the request, or cannot be started again.
            EngineDeadError: if engines were lost too often.
        """
        replica = self._replica_of.get(session_id)
        if replica is None:
            replica = min(self._replicas, key=lambda candidate: candidate.load)
            self._replica_of[session_id] = replica
        replica.load += 1
        try:
            output = await replica.generate(prompt_ids, sampling)
        finally:
            replica.load -= 1
        if on_tokens is not None:
            on_tokens(output.token_ids)
        return output

    def end_sessions(self) -> None:
        """Forgets which session is where; call it between rollouts."""
        self._replica_of.clear()

    @property
    def restarts(self) -> int:
        """How often an engine was started again."""
        return self._restarts.taken

    def _replace(self, replica: Replica, lost: Any, reason: str) -> None:
        """During a rollout, on a thread of its own."""
        self._restart(replica, lost, reason)
        if self.refresh is not None:
            with self.weights_lock:
                self.refresh(EngineCalls([replica], self.weight_format, self._sleeps))

    def restart_lost(self) -> None:
        """Starts engines again that were lost, and that nobody has missed yet; the next publication
        of weights finds them as it finds the others. :class:`RolloutEngineError` if one cannot."""
        for replica in self._replicas:
            actor = replica.actor
            fault = replica.find_fault()
            if fault is not None and self._restart(replica, actor, fault):
                EngineCalls([replica], self.weight_format, self._sleeps).sleep()

    def _restart(self, replica: Replica, lost: Any, reason: str) -> bool:
        """See :meth:`Replica.restart`; no new process generates with ``model_path``'s weights where
        others are due."""
        holds = self.refresh is not None
        return replica.restart(lost, reason, self._restarts, self._start_timeout_s, holds)

    def shutdown(self) -> None:
        """Ends all engines; first gently, so that vLLM ends its own processes."""
        references = [replica.actor.shutdown.remote() for replica in self._replicas]
        ray.wait(references, num_returns=len(references), timeout=10)
        for replica in self._replicas:
            replica.close()
        self._replicas = []
        if self._pool is not None:
            self._pool.release()


def _start(options: dict[str, Any], settings: ReplicaSettings) -> Any:
    """Handle of a new process."""
    actor_class = ray.remote(VLLMReplicaActor)
    return actor_class.options(max_concurrency=_MAX_CALLS_IN_FLIGHT, **options).remote(settings)
