"""Ray worker groups: one actor process per rank, each holding one or more roles.

Guarantees: a method call reaches every rank or raises; calls from several threads reach all ranks
in the same order; the first rank that fails surfaces as one :class:`WorkerGroupError`, after which
the group refuses further calls.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from verl.errors import UserError
from verl.single_controller.arrival import NotArrivedError, in_order_of_arrival
from verl.single_controller.dispatch import MethodSpec, gather, method_specs, spread
from verl.single_controller.rank_device import RankDevice, claim_rank_device
from verl.single_controller.resource_pool import RayResourcePool
from verl.single_controller.worker import RankInfo, Worker, free_port
from verl.utils.garbage import spare_the_collector

logger = logging.getLogger(__name__)


class WorkerGroupError(UserError):
    """A worker process raised, died or did not start; the message names the rank."""


class RayClassWithInit:
    """A worker class and the arguments it is built with in each process."""

    def __init__(self, cls: type[Worker], *args: Any) -> None:
        self.cls = cls
        self.args = args


class _Process:
    """The actor: all roles of one rank."""

    def claim_device(self) -> RankDevice:
        return claim_rank_device()

    def free_port(self) -> int:
        return free_port()

    def start(self, info: RankInfo, roles: Mapping[str, RayClassWithInit]) -> None:
        Worker.init_process_group(info)
        self._workers = {name: role.cls(info, *role.args) for name, role in roles.items()}
        spare_the_collector()

    def call(self, role: str, method: str, args: tuple[Any, ...]) -> Any:
        return getattr(self._workers[role], method)(*args)


class RayWorkerGroup:
    """Spawns colocated roles over a resource pool; ``group["actor"].method(...)`` calls all ranks.

    Args:
        resource_pool: one process per slot.
        roles: role name to class; all roles of a rank live in one process.
        num_threads: torch threads of each process (CPU).
        start_timeout_s: how long all ranks together may take to start and load their roles.

    Attributes:
        devices: node and GPU of each rank, as its process reports them.

    Raises:
        ResourceError: if the cluster cannot grant the slots.
        WorkerGroupError: if a rank fails or is not up in time.
    """

    def __init__(
        self,
        resource_pool: RayResourcePool,
        roles: Mapping[str, RayClassWithInit],
        device: str = "cpu",
        num_threads: int = 1,
        start_timeout_s: float = 1800.0,
    ) -> None:
        self._pool = resource_pool
        self._dead: str | None = None
        self._sending = threading.Lock()
        self.world_size = resource_pool.world_size
        slots = [
            (group, local_rank, group.bundle_count)
            for group in resource_pool.placement_groups()
            for local_rank in range(group.bundle_count)
        ]
        options: dict[str, Any] = {"num_cpus": 1}
        if resource_pool.use_gpu:
            options["num_gpus"] = 1
        if device == "cpu":
            env = {"OMP_NUM_THREADS": str(num_threads), "TOKENIZERS_PARALLELISM": "false"}
            options["runtime_env"] = {"env_vars": env}
        actor_class = ray.remote(_Process)
        self.processes: list[Any] = []
        for group, local_rank, _ in slots:
            strategy = PlacementGroupSchedulingStrategy(group, local_rank)
            started = actor_class.options(**options, scheduling_strategy=strategy).remote()
            self.processes.append(started)
        deadline = time.monotonic() + start_timeout_s
        self.devices: list[RankDevice] = self._started(
            [process.claim_device.remote() for process in self.processes], "process", deadline
        )
        [port] = self._started([self.processes[0].free_port.remote()], "process", deadline)
        host = self.devices[0].host
        infos = [
            RankInfo(rank, self.world_size, local_rank, device, host, port, num_threads, local_size)
            for rank, (_, local_rank, local_size) in enumerate(slots)
        ]
        self._started(
            [
                process.start.remote(info, dict(roles))
                for process, info in zip(self.processes, infos, strict=True)
            ],
            "+".join(roles),
            deadline,
        )
        self._roles = {name: RoleHandle(self, name, role.cls) for name, role in roles.items()}

    def __getitem__(self, role: str) -> RoleHandle:
        return self._roles[role]

    def call(self, role: str, method: str, spec: MethodSpec, args: tuple[Any, ...]) -> Any:
        """Calls a registered method on all ranks and joins the results as its mode says; raises
        :class:`WorkerGroupError` if a rank raises or dies, or the group is dead already."""
        if self._dead:
            raise WorkerGroupError(f"the worker group is dead: {self._dead}")
        calls, pad_size = spread(spec, self.world_size, args)
        with self._sending:
            references = [
                process.call.remote(role, method, its_args)
                for process, its_args in zip(self.processes, calls, strict=True)
            ]
        return gather(spec, self._resolve(references, role, method), pad_size)

    def _started(self, references: list[Any], role: str, deadline: float) -> list[Any]:
        """Results of a step of the start; raises :class:`WorkerGroupError` if a rank fails, or has
        not ended at ``deadline``."""
        try:
            return self._resolve(references, role, "__init__", deadline - time.monotonic())
        except NotArrivedError as late:
            up = [rank for rank in range(len(references)) if rank not in late.pending]
            self._dead = f"ranks {late.pending} of {self.world_size} did not start {role} in time"
            places = self._pool.reserved_ranks()
            where = ", ".join(f"{rank} on {places[rank]}" for rank in late.pending)
            self.shutdown()
            raise WorkerGroupError(
                f"{self._dead} ({where}; up: {up or 'none'}). Raise trainer.start_timeout_s if "
                "loading is slow; VERL_WORKER_LOGS=1 shows what the processes say"
            ) from late

    def _resolve(
        self, references: list[Any], role: str, method: str, timeout_s: float | None = None
    ) -> list[Any]:
        """Waits for all, but raises as soon as one fails: the others may wait for it forever."""
        for rank in in_order_of_arrival(references, timeout_s):
            try:
                ray.get(references[rank])
            except (RayActorError, RayTaskError) as error:
                raise self._failed(rank, role, method, error) from error
        return list(ray.get(references))

    def _failed(self, rank: int, role: str, method: str, error: Exception) -> WorkerGroupError:
        what = "died" if isinstance(error, RayActorError) else "failed"
        self._dead = f"rank {rank} of {self.world_size} {what} in {role}.{method}"
        self.shutdown()
        return WorkerGroupError(f"{self._dead}: {error}")

    def shutdown(self) -> None:
        """Ends all processes and frees their slots."""
        for process in self.processes:
            ray.kill(process, no_restart=True)
        self.processes = []
        self._dead = self._dead or "it was shut down"
        self._pool.release()


class RoleHandle:
    """The registered methods of one role, as plain methods without keyword arguments."""

    def __init__(self, group: RayWorkerGroup, role: str, cls: type[Worker]) -> None:
        self._group = group
        self._role = role
        self._specs = method_specs(cls)

    def __getattr__(self, method: str) -> Any:
        specs = self.__dict__["_specs"]
        if method not in specs:
            raise AttributeError(
                f"{self._role} has no registered method {method!r}; it has: {sorted(specs)}"
            )

        def call(*args: Any) -> Any:
            return self._group.call(self._role, method, specs[method], args)

        return call
