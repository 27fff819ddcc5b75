"""One driver program that calls methods of many worker processes as if they were one object."""

from verl.single_controller.dispatch import Dispatch, register
from verl.single_controller.rank_device import RankDevice
from verl.single_controller.resource_pool import RayResourcePool
from verl.single_controller.worker import Worker
from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup, WorkerGroupError

__all__ = [
    "Dispatch",
    "RankDevice",
    "RayClassWithInit",
    "RayResourcePool",
    "RayWorkerGroup",
    "Worker",
    "WorkerGroupError",
    "register",
]
