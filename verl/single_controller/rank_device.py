"""Where the process of one rank lies, so that an engine can be put on the same hardware."""

from __future__ import annotations

import os
from dataclasses import dataclass

import ray


@dataclass(frozen=True)
class RankDevice:
    """Node and GPU of one rank.

    Attributes:
        node_id: Ray's id of the node, hex.
        host: the node's address, for people.
        cuda_device: its GPU as CUDA_VISIBLE_DEVICES names it on that node, an index ("3") or a
            UUID ("GPU-5f6a…"); None for a process without a GPU.
    """

    node_id: str
    host: str
    cuda_device: str | None = None

    def __str__(self) -> str:
        return self.host if self.cuda_device is None else f"{self.host} GPU {self.cuda_device}"


def claim_rank_device() -> RankDevice:
    """What Ray has granted this process; its GPU is the only one that CUDA shows it afterwards.

    To be called in a Ray actor with at most one GPU, before CUDA is initialised. Ray sets
    CUDA_VISIBLE_DEVICES itself unless RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES is set in the
    cluster; then every process would take the node's first GPU.
    """
    context = ray.get_runtime_context()
    granted = context.get_accelerator_ids()["GPU"]
    if granted:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(granted)
    return RankDevice(
        node_id=context.get_node_id(),
        host=ray.util.get_node_ip_address(),
        cuda_device=granted[0] if granted else None,
    )
