"""Worker classes that the single-controller tests start in real processes."""

from __future__ import annotations

import os

import ray
import torch
import torch.distributed as dist

from verl.protocol import DataProto
from verl.single_controller.dispatch import Dispatch, register
from verl.single_controller.worker import Worker


class Arithmetic(Worker):
    """Simple sums, so that a test can see which rank did what."""

    @register(Dispatch.ONE_TO_ALL)
    def where(self) -> tuple[int, int, int]:
        return self.rank, self.world_size, os.getpid()

    @register(Dispatch.ONE_TO_ALL)
    def sees(self) -> tuple[str, str]:
        """Node, and the GPUs that CUDA would show."""
        node: str = ray.get_runtime_context().get_node_id()
        return node, os.environ.get("CUDA_VISIBLE_DEVICES", "")

    @register(Dispatch.DP_COMPUTE, pad=True)
    def double(self, data: DataProto) -> DataProto:
        assert data.batch is not None
        ranks = torch.full((len(data),), self.rank)
        return DataProto.from_dict({"doubled": data.batch["x"] * 2, "rank": ranks})

    @register(Dispatch.DP_COMPUTE)
    def total(self, data: DataProto) -> DataProto:
        assert data.batch is not None
        total = data.batch["x"].sum()
        dist.all_reduce(total)
        return DataProto(meta_info={"total": int(total)})

    @register(Dispatch.ONE_TO_ALL)
    def fail_on(self, rank: int) -> None:
        if self.rank == rank:
            raise ValueError(f"rank {rank} has had enough")
        dist.barrier()  # the others would wait for ever

    @register(Dispatch.ONE_TO_ALL)
    def die_on(self, rank: int) -> None:
        if self.rank == rank:
            os._exit(1)
        dist.barrier()

    def unregistered(self) -> None:
        raise AssertionError("never called")
