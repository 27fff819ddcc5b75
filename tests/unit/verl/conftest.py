"""What tests of workers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def single_rank() -> Iterator[object]:
    """This process as a process group of its own (:class:`RankInfo`), of one thread: so little
    waits longer for a second than it computes."""
    import torch
    import torch.distributed as dist

    from verl.single_controller.worker import RankInfo

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield RankInfo(0, 1, 0, "cpu", "localhost", 0)
    finally:
        dist.destroy_process_group()
        torch.set_num_threads(threads)
