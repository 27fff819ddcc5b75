"""Which trajectories of a rollout the update may learn from.

Guarantees: an excluded trajectory reaches neither reward, baseline, whitening, loss nor the metrics
made from them; what is left out is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from verl.trajectory import Trajectory


@dataclass(frozen=True)
class Selection:
    """Rows of a rollout, ascending.

    Attributes:
        kept: rows that take part.
        excluded: how many the agent excluded.
        alone: how many sound ones have no peer left that their advantage could be relative to.
    """

    kept: list[int]
    excluded: int
    alone: int

    def metrics(self) -> dict[str, float]:
        """``rollout/excluded`` and ``rollout/alone``: trajectories that take no part."""
        return {"rollout/excluded": float(self.excluded), "rollout/alone": float(self.alone)}


def select_for_update(trajectories: Sequence[Trajectory], needs_peers: bool) -> Selection:
    """Leaves out excluded trajectories, and with ``needs_peers`` the only one left of a prompt."""
    sound = [i for i, trajectory in enumerate(trajectories) if not trajectory.excluded]
    group_sizes = Counter(trajectories[i].uid for i in sound)
    kept = [i for i in sound if not needs_peers or group_sizes[trajectories[i].uid] > 1]
    return Selection(kept, len(trajectories) - len(sound), len(sound) - len(kept))
