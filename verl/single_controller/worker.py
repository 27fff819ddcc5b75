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
        rank, world_size: among all processes.
        local_rank, local_world_size: among those of its node.
        device: "cpu" or "cuda".
        master_addr, master_port: where the process group meets.
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

    def environment(self) -> dict[str, str]:
        """The variables that torch and the libraries on it expect of a launcher.

        Libraries take LOCAL_RANK as the index of this process's GPU among the GPUs that it sees
        (torch's device mesh and transformers call ``set_device`` with it), and the other local
        ranks as those that see the same. Each process sees one GPU, so on CUDA it is alone.
        """
        alone = self.device == "cuda"
        return {
            "MASTER_ADDR": self.master_addr,
            "MASTER_PORT": str(self.master_port),
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": "0" if alone else str(self.local_rank),
            "LOCAL_WORLD_SIZE": "1" if alone else str(self.local_world_size),
        }


def free_port() -> int:
    """A port of this node that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


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
        self.rank = info.rank
        self.world_size = info.world_size
        self.device = torch.device(info.device)

    @staticmethod
    def init_process_group(info: RankInfo) -> None:
        """Joins the process group, gloo on CPU and NCCL on CUDA; does nothing the second time."""
        if dist.is_initialized():
            return
        os.environ.update(info.environment())
        if info.device == "cuda":
            torch.cuda.set_device(0)  # the only GPU that this process sees
        set_torch_threads(info)
        dist.init_process_group(
            # gloo as well on CUDA: offloaded shards are reduced on the CPU.
            backend="cpu:gloo,cuda:nccl" if info.device == "cuda" else "gloo",
            rank=info.rank,
            world_size=info.world_size,
            timeout=timedelta(minutes=30),
        )
