"""A set of process slots reserved in the Ray cluster, one bundle per process.

Guarantees: the slots of one node lie on one node; what the cluster cannot grant in time ends in an
error that says what is missing and what is busy, and keeps nothing reserved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import ray
from ray.util import placement_group_table
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from verl.errors import UserError
from verl.single_controller.rank_device import RankDevice


class ResourceError(UserError):
    """The cluster does not have what a pool asks for, or not free."""


@dataclass
class RayResourcePool:
    """Process slots.

    Attributes:
        processes_per_node: one entry a node.
        use_gpu: ``gpus_per_process`` GPUs per process, beside its CPU.
        timeout_s: how long to wait for the cluster to grant the slots.
        remedy: what the user can do where the cluster is too small.
    """

    processes_per_node: list[int]
    use_gpu: bool = False
    timeout_s: float = 60.0
    gpus_per_process: int = 1
    remedy: str = "Lower trainer.n_gpus_per_node or trainer.nnodes"
    _groups: list[PlacementGroup] = field(default_factory=list, repr=False)

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return sum(self.processes_per_node)

    @property
    def bundle(self) -> dict[str, float]:
        """Ray resources of one process."""
        return {"CPU": 1.0, "GPU": float(self.gpus_per_process)} if self.use_gpu else {"CPU": 1.0}

    def placement_groups(self) -> list[PlacementGroup]:
        """One placement group a node, reserved on first use; raises :class:`ResourceError` if the
        cluster cannot grant them in time."""
        if not self._groups:
            self._groups = [
                placement_group([self.bundle for _ in range(count)], strategy="STRICT_PACK")
                for count in self.processes_per_node
            ]
            granted, pending = ray.wait(
                [group.ready() for group in self._groups],
                num_returns=len(self._groups),
                timeout=self.timeout_s,
            )
            if pending:
                free = ray.available_resources()
                self.release()
                raise ResourceError(self._shortage(free, len(granted)))
        return self._groups

    def reserved_ranks(self) -> list[RankDevice]:
        """The node of each process, by Ray's books; its GPU only the process itself can tell.
        Raises as :meth:`placement_groups`."""
        hosts = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        nodes = [
            placement_group_table(group)["bundles_to_node_id"][bundle]
            for group in self.placement_groups()
            for bundle in range(group.bundle_count)
        ]
        return [RankDevice(node, hosts[node]) for node in nodes]

    def release(self) -> None:
        """Gives the slots back."""
        for group in self._groups:
            remove_placement_group(group)
        self._groups = []

    def _shortage(self, free: Mapping[str, float], granted: int) -> str:
        """``free`` is what was left beside the ``granted`` groups."""
        lines = []
        total = ray.cluster_resources()
        for name, each in self.bundle.items():
            need = each * self.world_size
            idle = free.get(name, 0.0) + each * sum(self.processes_per_node[:granted])
            busy = max(0.0, total.get(name, 0.0) - idle)
            lines.append(f"{name}: {need:g} needed, {total.get(name, 0.0):g} there, {busy:g} busy")
        nodes = Counter(
            ", ".join(f"{name}={node['Resources'].get(name, 0):g}" for name in self.bundle)
            for node in ray.nodes()
            if node["Alive"]
        )
        each_node = "; ".join(f"{count} node(s) with {has}" for has, count in nodes.items())
        return (
            f"the Ray cluster could not grant {self.processes_per_node} processes of {self.bundle} "
            f"within {self.timeout_s:.0f} s, each entry of the list on one node. "
            f"{'; '.join(lines)}. It has {each_node}. {self.remedy}, add nodes, or wait until what "
            "is busy is free."
        )
