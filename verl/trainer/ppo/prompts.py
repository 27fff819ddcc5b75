"""Prompts of training, rolled out: where the synchronous loop gets a step's trajectories from.

Guarantees: rows are taken in the data's order; each prompt comes with all of its ``n_agent``
trajectories.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from verl.config.ppo import PPOConfig
from verl.interfaces import RolloutOptions, RolloutRequest, RolloutSource
from verl.trainer.ppo.row_stream import RowStream
from verl.trajectory import Trajectory
from verl.utils.dataset import PromptDataset


class SampledPrompts(NamedTuple):
    """Requests and their trajectories, row by row; those of one prompt follow one another."""

    requests: list[RolloutRequest]
    trajectories: list[Trajectory]


class PromptSampler(Protocol):
    """Rolls prompts out for a step; its state is the rows it has used up."""

    def sample(self, step: int, count: int) -> SampledPrompts:
        """``count`` prompts, rolled out; blocks until they are."""
        ...

    def metrics(self) -> dict[str, float]:
        """About the prompts given since the last call."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        ...

    def close(self) -> None:
        """Ends what is under way."""
        ...


class PromptRequests:
    """The requests of training's rows.

    Args:
        config: of the run.
        rows: in the order of training.
        dataset: of training.

    Attributes:
        options: how they are sampled.
    """

    def __init__(self, config: PPOConfig, rows: RowStream, dataset: PromptDataset) -> None:
        rollout = config.actor_rollout_ref.rollout
        self.options = RolloutOptions.of(rollout, config.trainer.seed)
        self.rows = rows
        self._samples = rollout.n_agent
        self._dataset = dataset
        self._step = self._asked = 0

    def take(self, step: int, count: int) -> list[tuple[int, list[RolloutRequest]]]:
        """The next ``count`` rows, each with its ``n_agent`` requests; prompts that a step asks for
        are numbered from 0."""
        if step != self._step:
            self._step, self._asked = step, 0
        prompts = []
        for row in self.rows.take(count):
            uid = f"step{step}-{self._asked}"
            requests = [
                self._dataset.request(row, uid=uid, sample_index=k) for k in range(self._samples)
            ]
            prompts.append((row, requests))
            self._asked += 1
        return prompts


class NextPrompts:
    """Rolls the next rows out while the step waits.

    Args:
        requests: of the rows.
        source: makes trajectories.
    """

    def __init__(self, requests: PromptRequests, source: RolloutSource) -> None:
        self._requests = requests
        self._source = source

    def sample(self, step: int, count: int) -> SampledPrompts:
        """See :class:`PromptSampler`."""
        prompts = self._requests.take(step, count)
        requests = [request for _, of_one in prompts for request in of_one]
        return SampledPrompts(requests, self._source.rollout(requests, self._requests.options))

    def metrics(self) -> dict[str, float]:
        """None."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Of the rows."""
        return self._requests.rows.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of the rows."""
        self._requests.rows.load_state_dict(state)

    def close(self) -> None:
        """Nothing is under way between two calls."""
