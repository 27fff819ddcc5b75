"""A Ray of its own with GPUs that exist in its books only: a trainer's processes, then actors at
the engines' places, each saying which node and which GPUs it has. Prints what they say as JSON.

Run in a subprocess by test_placement.py, which says what there is (:class:`Machines`) and, for one
trainer after the other, how it lies there (:class:`Situation`), both as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.cluster_utils import Cluster

from tests.integration.workers import Arithmetic
from verl.single_controller.resource_pool import RayResourcePool, ResourceError
from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup
from verl.workers.rollout.placement import own_gpus, place_beside


@dataclass
class Machines:
    """``nodes`` Ray nodes of ``gpus`` GPUs each."""

    gpus: int
    nodes: int = 1

    def start(self) -> None:
        """Starts Ray on them."""
        if self.nodes == 1:
            ray.init("local", num_cpus=4, num_gpus=self.gpus, include_dashboard=False)
            return
        cluster = Cluster()
        for _ in range(self.nodes):
            cluster.add_node(num_cpus=2, num_gpus=self.gpus, include_dashboard=False)
        ray.init(address=cluster.address)


@dataclass
class Situation:
    """A trainer of ``per_node`` processes and engines of ``tensor_parallel`` of their GPUs,
    while another job holds ``busy`` GPUs; an evaluation's engines would
    take ``evaluation`` each."""

    per_node: list[int] = field(default_factory=lambda: [2])
    busy: int = 0
    tensor_parallel: int = 1
    evaluation: int = 1

    def look(self) -> dict[str, Any]:
        """What the processes say of themselves; "free": what an evaluation would find."""
        others = [Actor.options(num_gpus=1).remote() for _ in range(self.busy)]
        ray.get([other.sees.remote() for other in others])
        free = self.free_engines()
        group = RayWorkerGroup(
            RayResourcePool(self.per_node, use_gpu=True), {"only": RayClassWithInit(Arithmetic)}
        )
        places = place_beside(group.devices, -1, self.tensor_parallel)
        engines = [Actor.options(**place.actor_options()).remote() for place in places]
        said = {
            "free": free,
            "trainer": group["only"].sees(),
            "engines": ray.get([engine.sees.remote() for engine in engines]),
        }
        group.shutdown()
        for actor in (*others, *engines):
            ray.kill(actor)
        while ray.available_resources().get("GPU") != ray.cluster_resources()["GPU"]:
            time.sleep(0.1)  # Ray's books follow later
        return said

    def free_engines(self) -> int | str:
        """How many engines get GPUs of their own, or the error where none does."""
        pool = own_gpus(-1, self.evaluation)
        pool.timeout_s = 2.0
        try:
            pool.placement_groups()
        except ResourceError as error:
            return str(error)
        pool.release()
        return pool.world_size


@ray.remote(num_cpus=0)
class Actor:
    """Takes an engine's place, or holds a GPU as another job does."""

    def sees(self) -> tuple[str, str]:
        """Node, and the GPUs that CUDA would show."""
        node: str = ray.get_runtime_context().get_node_id()
        return node, os.environ.get("CUDA_VISIBLE_DEVICES", "")


if __name__ == "__main__":
    Machines(**json.loads(sys.argv[1])).start()
    said = [Situation(**situation).look() for situation in json.loads(sys.argv[2])]
    sys.stdout.write(json.dumps(said) + "\n")
