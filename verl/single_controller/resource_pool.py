"""A set of process slots reserved in the Ray cluster, one bundle per process."""

from __future__ import annotations

from dataclasses import dataclass, field

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from verl.errors import UserError


class ResourceError(UserError):
    """The cluster does not have what a pool asks for."""


@dataclass
class RayResourcePool:
    """Process slots.

    Attributes:
        processes_per_node: one entry a node.
        use_gpu: one GPU per process; else one CPU per process.
        timeout_s: how long to wait for the cluster to grant the slots.
    """

    processes_per_node: list[int]
    use_gpu: bool = False
    timeout_s: float = 60.0
    _groups: list[PlacementGroup] = field(default_factory=list, repr=False)

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return sum(self.processes_per_node)

    def placement_groups(self) -> list[PlacementGroup]:
        """One placement group a node, reserved on first use.

        Raises:
            ResourceError: if the cluster cannot grant them in time.
        """
        if not self._groups:
            bundle = {"CPU": 1.0, "GPU": 1.0} if self.use_gpu else {"CPU": 1.0}
            self._groups = [
                placement_group([dict(bundle) for _ in range(count)], strategy="STRICT_PACK")
                for count in self.processes_per_node
            ]
            _, pending = ray.wait(
                [group.ready() for group in self._groups],
                num_returns=len(self._groups),
                timeout=self.timeout_s,
            )
            if pending:
                have = ray.cluster_resources()
                self.release()
                raise ResourceError(
                    f"the Ray cluster could not grant {self.processes_per_node} processes of "
                    f"{bundle} within {self.timeout_s:.0f} s; it has "
                    f"CPU={have.get('CPU', 0):g}, GPU={have.get('GPU', 0):g}. Lower "
                    "trainer.n_gpus_per_node or trainer.nnodes, or add nodes."
                )
        return self._groups

    def release(self) -> None:
        """Gives the slots back."""
        for group in self._groups:
            remove_placement_group(group)
        self._groups = []
