"""What a Ray cluster that the run joins has: slots, and its weakest node."""

from __future__ import annotations

import ray
from ray.exceptions import RayError

from verl.config.ppo import PPOConfig, RayConfig
from verl.trainer.cluster import (
    OWN,
    ClusterError,
    ask_node,
    choose_address,
    live_nodes,
    ray_cluster,
)
from verl.trainer.machine import Machine
from verl.utils.checklist import CheckLine, decide

_ANSWER_TIMEOUT_S = 120.0


def joins_cluster(config: RayConfig) -> bool:
    """Whether the run joins a cluster instead of starting one here."""
    return choose_address(config.address) != OWN


def inspect_cluster(config: PPOConfig) -> tuple[list[CheckLine], Machine | None]:
    """The slots that the run's ranks take, against the free ones; the weakest node with a GPU, with
    all of its cards; without a GPU in the cluster the weakest of all nodes, and None if the cluster
    cannot be asked."""
    ranks = config.trainer.ranks
    try:
        with ray_cluster(config.ray, ranks):
            have, free = ray.cluster_resources(), ray.available_resources()
            machine = _weakest_node()
    except (ClusterError, RayError) as error:
        advice = "see ray.address and RAY_ADDRESS"
        return [decide(False, "Ray cluster", str(error), advice=advice)], None
    kinds = ("CPU", "GPU") if config.trainer.device == "cuda" or machine.gpus else ("CPU",)
    lines = [
        decide(
            free.get(kind, 0.0) >= ranks,
            f"Ray {kind}s",
            f"{free.get(kind, 0.0):g} free of {have.get(kind, 0.0):g}",
            str(ranks),
            "change trainer.nnodes or trainer.n_gpus_per_node, or add nodes",
        )
        for kind in kinds
    ]
    return lines, machine


def _weakest_node() -> Machine:
    asked = [ask_node(Machine.whole, node) for node in live_nodes()]
    machines: list[Machine] = ray.get(asked, timeout=_ANSWER_TIMEOUT_S)
    return min(
        [machine for machine in machines if machine.gpus] or machines,
        key=lambda machine: (
            min((gpu.total_bytes for gpu in machine.gpus), default=0.0),
            len(machine.gpus),
            machine.ram_bytes,
        ),
    )
