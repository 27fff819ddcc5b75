"""What a Ray cluster that the run joins has."""

from __future__ import annotations

import os

import ray

from verl.config.ppo import PPOConfig, RayConfig
from verl.errors import UserError
from verl.trainer.launch import ray_cluster
from verl.utils.checklist import CheckLine, Verdict


def joins_cluster(config: RayConfig) -> bool:
    """Whether the run joins a cluster instead of starting one here."""
    return (config.address or os.environ.get("RAY_ADDRESS", "local")) != "local"


def joined_cluster_lines(config: PPOConfig, device: str) -> list[CheckLine]:
    """CPUs and GPUs of the cluster that ``config.ray`` names, against what the run's ranks take."""
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    try:
        with ray_cluster(config.ray, ranks):
            have, free = ray.cluster_resources(), ray.available_resources()
    except (UserError, ConnectionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        return [CheckLine("Ray cluster", Verdict.NOT_OK, reason, advice="see ray.address")]
    kinds = ("CPU", "GPU") if device == "cuda" else ("CPU",)
    return [_resource_line(kind, have.get(kind, 0.0), free.get(kind, 0.0), ranks) for kind in kinds]


def _resource_line(kind: str, have: float, free: float, need: int) -> CheckLine:
    enough = free >= need
    return CheckLine(
        f"Ray {kind}s",
        Verdict.OK if enough else Verdict.NOT_OK,
        f"{free:g} free of {have:g}",
        str(need),
        "" if enough else "change trainer.nnodes or trainer.n_gpus_per_node, or add nodes",
    )
