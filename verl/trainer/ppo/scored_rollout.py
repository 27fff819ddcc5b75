"""Trajectories with their requests, batch and reward: rows that stay in step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from verl.algorithms.maths import group_rows
from verl.interfaces import RewardOutput, RolloutRequest
from verl.protocol import DataProto
from verl.trajectory import Trajectory, collate
from verl.utils.rows import ground_truth


@dataclass(frozen=True)
class ScoredRollout:
    """Trajectories of some prompts; for ``batch`` see :func:`labelled_batch`."""

    requests: list[RolloutRequest]
    trajectories: list[Trajectory]
    batch: DataProto
    reward: RewardOutput

    @property
    def groups(self) -> list[list[int]]:
        """Rows of each prompt, in order of appearance."""
        return group_rows([trajectory.uid for trajectory in self.trajectories])

    def only(self, groups: Iterable[Sequence[int]]) -> ScoredRollout:
        """The rows of some groups, in their present order."""
        rows = sorted(chain.from_iterable(groups))
        if len(rows) == len(self.trajectories):
            return self
        steps = self.reward.steps
        return ScoredRollout(
            [self.requests[i] for i in rows],
            [self.trajectories[i] for i in rows],
            self.batch[rows],
            RewardOutput(
                self.reward.scores[rows],
                {name: values[rows] for name, values in self.reward.metrics.items()},
                None if steps is None else [steps[i] for i in rows],
            ),
        )


def labelled_batch(
    requests: Sequence[RolloutRequest], trajectories: Sequence[Trajectory], pad_token_id: int
) -> DataProto:
    """The trajectories, collated, with ``data_source`` and ``ground_truth`` of their rows."""
    columns = {
        "data_source": [str(request.row["data_source"]) for request in requests],
        "ground_truth": [ground_truth(request.row) for request in requests],
    }
    return collate(trajectories, pad_token_id).union(DataProto.from_dict(non_tensors=columns))


def join_rewards(rewards: Sequence[RewardOutput]) -> RewardOutput:
    """One after the other."""
    steps: list[Sequence[float]] | None = None
    if any(reward.steps is not None for reward in rewards):
        steps = [of_one for r in rewards for of_one in r.steps or [()] * len(r.scores)]
    return RewardOutput(
        np.concatenate([reward.scores for reward in rewards]),
        {
            name: np.concatenate([reward.metrics[name] for reward in rewards])
            for name in rewards[0].metrics
        },
        steps,
    )
