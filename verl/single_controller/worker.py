"""Base of everything that runs in a worker process."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class RankInfo:
    """Place of one process.

    Attributes:
        local_rank, local_world_size: among the processes of its node.
        device: "cpu" or "cuda".
        num_threads: of CPU kernels where the device is the CPU.
    """

    rank: int
    world_size: int
    local_rank: int
    device: str
    master_addr: str
    master_port: int
    num_threads: int = 1
    local_world_size: int = 1


def free_address() -> tuple[str, int]:
    """This node's address and a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = int(probe.getsockname()[1])
    import ray

    return ray.util.get_node_ip_address(), port


def set_torch_threads(info: RankInfo) -> None:
    """Offloaded optimizer states are stepped on the CPU: a GPU's process takes its share of the
    node's cores, where Ray would leave it one thread."""
    if info.device == "cuda":
        cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, cores // info.local_world_size))
    else:
        torch.set_num_threads(info.num_threads)


class Worker:
    """One role in one process; several roles of a process share its process group."""

    def __init__(self, info: RankInfo) -> None:
        self.info = info
        self.rank = info.rank
        self.world_size = info.world_size
        self.device = torch.device(info.device)

    @staticmethod
    def init_process_group(info: RankInfo) -> None:
        """Joins the process group, gloo on CPU and NCCL on CUDA; does nothing the second time."""
        if dist.is_initialized():
            return
        os.environ.update(
            MASTER_ADDR=info.master_addr,
            MASTER_PORT=str(info.master_port),
            RANK=str(info.rank),
            WORLD_SIZE=str(info.world_size),
            LOCAL_RANK=str(info.local_rank),
        )
        if info.device == "cuda":
            torch.cuda.set_device(0)  # Ray shows each process only its own GPU
        set_torch_threads(info)
        dist.init_process_group(
            # gloo as well on CUDA: offloaded shards are reduced on the CPU.
            backend="cpu:gloo,cuda:nccl" if info.device == "cuda" else "gloo",
            rank=info.rank,
            world_size=info.world_size,
            timeout=timedelta(minutes=30),
        )
