"""Which node and which GPUs each engine gets.

Guarantees: an engine that shares its GPUs with the trainer gets exactly the devices that the
trainer's processes say they have, on their node and in the order of their ranks; the GPUs of one
engine lie on one node; no GPU belongs to two engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from verl.config.validation import ConfigError
from verl.single_controller.rank_device import RankDevice
from verl.single_controller.resource_pool import RayResourcePool


@dataclass(frozen=True)
class ReplicaPlacement:
    """The place of one engine: the ranks whose node and GPUs it shares, one per tensor-parallel
    rank of the engine; on CPU the one rank beside which it lies."""

    ranks: tuple[RankDevice, ...]

    @property
    def _devices(self) -> str:
        """As CUDA_VISIBLE_DEVICES has them; empty on CPU."""
        return ",".join(rank.cuda_device for rank in self.ranks if rank.cuda_device is not None)

    def __str__(self) -> str:
        return self.ranks[0].host + (f" GPU {self._devices}" if self._devices else "")

    def actor_options(self) -> dict[str, Any]:
        """Options of the Ray actor that holds the engine.

        The actor takes no resources: in Ray's books the GPUs are the trainer's, so the engine
        names them itself, and Ray must leave that alone.
        """
        node = NodeAffinitySchedulingStrategy(self.ranks[0].node_id, soft=False)
        options: dict[str, Any] = {"num_cpus": 0, "num_gpus": 0, "scheduling_strategy": node}
        if self._devices:
            options["runtime_env"] = {
                "env_vars": {
                    "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1",
                    "CUDA_VISIBLE_DEVICES": self._devices,
                }
            }
        return options


def place_beside(
    ranks: Sequence[RankDevice], num_replicas: int, tensor_parallel_size: int
) -> list[ReplicaPlacement]:
    """Places of the engines of a run beside its trainer's ``ranks``.

    On CUDA each engine takes ``tensor_parallel_size`` ranks of one node, in rank order. On CPU all
    lie on the node of rank 0, whose shared memory the weights come through.

    Args:
        ranks: of the trainer, in rank order.
        num_replicas: -1 takes as many as there is place for, one on CPU.

    Raises:
        ConfigError: if the ranks have no place for ``num_replicas``.
    """
    if ranks[0].cuda_device is None:
        return [ReplicaPlacement((ranks[0],))] * (1 if num_replicas == -1 else num_replicas)
    by_node: dict[str, list[RankDevice]] = {}
    for rank in ranks:
        by_node.setdefault(rank.node_id, []).append(rank)
    places = [
        ReplicaPlacement(tuple(on_node[start : start + tensor_parallel_size]))
        for on_node in by_node.values()
        for start in range(0, len(on_node) - tensor_parallel_size + 1, tensor_parallel_size)
    ]
    wanted = len(places) if num_replicas == -1 else num_replicas
    if not 0 < wanted <= len(places):
        raise ConfigError(
            f"actor_rollout_ref.rollout: {max(1, wanted)} engine(s) of "
            f"tensor_model_parallel_size={tensor_parallel_size} do not fit beside the trainer's "
            f"{len(ranks)} GPU(s), which have place for {len(places)} (the GPUs of an engine lie "
            "on one node); change num_replicas, tensor_model_parallel_size or "
            "trainer.n_gpus_per_node"
        )
    return places[:wanted]


def own_gpus(num_replicas: int, tensor_parallel_size: int) -> RayResourcePool:
    """Slots of engines without a trainer, one an engine.

    ``num_replicas`` -1 takes the GPUs that are free now; if they do not do for one engine, the
    pool waits for that one, and says what is busy.
    """
    if num_replicas == -1:
        free = int(ray.available_resources().get("GPU", 0))
        num_replicas = max(1, free // tensor_parallel_size)
    return RayResourcePool(
        [1] * num_replicas,
        use_gpu=True,
        gpus_per_process=tensor_parallel_size,
        remedy="Lower actor_rollout_ref.rollout.num_replicas or tensor_model_parallel_size",
    )
