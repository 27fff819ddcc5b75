from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import pytest
import ray
import torch

from tests.integration.workers import Arithmetic
from verl.protocol import DataProto
from verl.single_controller.arrival import NotArrivedError, in_order_of_arrival
from verl.single_controller.resource_pool import RayResourcePool, ResourceError
from verl.single_controller.worker import RankInfo, set_torch_threads
from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup, WorkerGroupError

pytestmark = pytest.mark.usefixtures("ray_session")
Start = Callable[[], RayWorkerGroup]


@pytest.fixture
def start() -> Iterator[Start]:
    groups: list[RayWorkerGroup] = []

    def start_group() -> RayWorkerGroup:
        roles = {name: RayClassWithInit(Arithmetic) for name in ("first", "second")}
        groups.append(RayWorkerGroup(RayResourcePool([2]), roles))
        return groups[-1]

    yield start_group
    for group in groups:
        group.shutdown()


def assert_all_slots_are_free() -> None:
    pool = RayResourcePool([4])
    pool.placement_groups()
    pool.release()


def test_roles_dispatch_and_colocation(start: Start) -> None:
    group = start()
    first, second = group["first"].where(), group["second"].where()
    assert [(rank, size) for rank, size, _ in first] == [(0, 2), (1, 2)]
    pids = [pid for _, _, pid in first]
    assert pids == [pid for _, _, pid in second], "roles of a rank share its process"
    assert len(set(pids)) == 2

    data = DataProto.from_dict({"x": torch.arange(6)})
    assert group["first"].total(data).meta_info["total"] == 15
    odd = group["second"].double(DataProto.from_dict({"x": torch.arange(5)}))
    assert odd.batch["doubled"].tolist() == [0, 2, 4, 6, 8]
    assert odd.batch["rank"].tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(ValueError, match="5"):
        group["first"].total(DataProto.from_dict({"x": torch.arange(5)}))
    with pytest.raises(AttributeError, match=r"unregistered.*it has: \['die_on'"):
        group["first"].unregistered()


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("fail_on", "rank 1 of 2 failed in first.fail_on.*had enough"),
        ("die_on", "rank 1 of 2 died in first.die_on"),
    ],
)
def test_one_rank_lost_is_one_clear_error_and_frees_everything(
    start: Start, method: str, words: str
) -> None:
    group = start()
    with pytest.raises(WorkerGroupError, match=f"(?s){words}"):
        getattr(group["first"], method)(1)
    with pytest.raises(WorkerGroupError, match="is dead: rank 1 of 2"):
        group["first"].where()
    assert_all_slots_are_free()


# A process each: one that served a call would keep its threads for the next.
@ray.remote(num_cpus=1, max_calls=1)
def threads_of_a_rank(device: str, local_world_size: int) -> int:
    info = RankInfo(0, 8, 0, device, "", 0, num_threads=3, local_world_size=local_world_size)
    torch.set_num_threads(5)  # Ray leaves a worker one thread or more
    set_torch_threads(info)
    return torch.get_num_threads()


def test_a_gpus_process_has_its_share_of_the_cores_for_offloaded_states() -> None:
    cores = len(os.sched_getaffinity(0))
    calls = [("cuda", 1), ("cuda", 2 * cores), ("cpu", 1)]
    results = ray.get([threads_of_a_rank.remote(*call) for call in calls])
    assert results == [cores, 1, 3]


def test_more_processes_than_slots_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"\[64\] processes.*64 needed, 4 there.*CPU=4"):
        RayWorkerGroup(
            RayResourcePool([64], timeout_s=1.0), {"first": RayClassWithInit(Arithmetic)}
        )
    assert ray.is_initialized()


def test_ranks_that_are_not_up_in_time_are_named_and_their_slots_are_free() -> None:
    roles = {"first": RayClassWithInit(Arithmetic)}
    with pytest.raises(WorkerGroupError, match=r"\[0, 1\] of 2 did not start.*start_timeout_s"):
        RayWorkerGroup(RayResourcePool([2]), roles, start_timeout_s=0.05)
    assert_all_slots_are_free()


@ray.remote(num_cpus=0)
class Sometimes:
    """Returns, raises, or keeps its caller waiting."""

    async def do(self, what: str) -> str:
        if what == "fail":
            raise ValueError(what)
        if what == "wait":
            await asyncio.Event().wait()
        return what


def test_calls_that_have_not_ended_in_time_are_told_from_those_that_have() -> None:
    actor = Sometimes.remote()
    wait, fail, end = (actor.do.remote(what) for what in ("wait", "fail", "end"))
    ray.wait([fail, end], num_returns=2)
    arrived: list[int] = []
    with pytest.raises(NotArrivedError) as late:
        arrived.extend(in_order_of_arrival([wait, fail, end], timeout_s=0.2))
    assert (sorted(arrived), late.value.pending) == ([1, 2], [0])
    assert sorted(in_order_of_arrival([fail, end])) == [0, 1]
