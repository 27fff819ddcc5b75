"""Prompts of training, rolled out: where the synchronous loop gets a step's trajectories from.

Guarantees: rows are taken in the data's order, each once an epoch, however many are taken at a
time; each prompt comes with all of its ``n_agent`` trajectories; a signal abandons rollouts that
are waited for, training's and validation's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any, NamedTuple

from verl.config.ppo import PPOConfig
from verl.interfaces import RolloutOptions, RolloutRequest, RolloutSource
from verl.trainer.interruption import Interruption
from verl.trajectory import Trajectory
from verl.utils.dataset import PromptDataset, epoch_rows


class RowStream:
    """Endless rows in the order of :func:`~verl.utils.dataset.epoch_rows`; those that came back
    are taken first.

    Args:
        size: rows of the data.
        batch_size: rows of a step; what is left of an epoch that does not fill a step is dropped.
        seed, shuffle: see :func:`~verl.utils.dataset.epoch_rows`.

    Attributes:
        taken: rows so far.
        returned: rows among them that were of no use yet; they are the next.
    """

    def __init__(self, size: int, batch_size: int, seed: int, shuffle: bool) -> None:
        self._arguments = (size, batch_size, seed, shuffle)
        self._rows = epoch_rows(*self._arguments)
        self.taken = 0
        self.returned: list[int] = []

    def take(self, count: int) -> list[int]:
        """The next ``count``."""
        again, self.returned = self.returned[:count], self.returned[count:]
        fresh = list(islice(self._rows, count - len(again)))
        self.taken += len(fresh)
        return again + fresh

    def state_dict(self) -> dict[str, Any]:
        """How many rows were taken, and which came back."""
        return {"taken": self.taken, "returned": list(self.returned)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after so many."""
        self.taken = state["taken"]
        self.returned = list(state.get("returned", ()))  # older checkpoints have none
        self._rows = islice(epoch_rows(*self._arguments), self.taken, None)


class PromptRequests:
    """The requests of training's rows.

    Attributes:
        options: how they are sampled.
        rows: that they are made of.
    """

    def __init__(self, config: PPOConfig, dataset: PromptDataset) -> None:
        data, rollout = config.data, config.actor_rollout_ref.rollout
        seed, shuffle = config.trainer.seed, data.shuffle_train_dataloader
        self.options = RolloutOptions.of(rollout, seed)
        self.rows = RowStream(len(dataset), data.train_batch_size, seed, shuffle)
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


class InterruptibleSource:
    """A rollout source whose rollouts a signal abandons."""

    def __init__(self, source: RolloutSource, interruption: Interruption) -> None:
        self._source = source
        self._interruption = interruption

    def start(
        self, requests: Sequence[RolloutRequest], options: RolloutOptions
    ) -> Future[list[Trajectory]]:
        """See :class:`verl.interfaces.RolloutSource`; a signal leaves it alone."""
        return self._source.start(requests, options)

    def rollout(
        self,
        requests: Sequence[RolloutRequest],
        options: RolloutOptions,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory]:
        """See :class:`verl.interfaces.RolloutSource`.

        Raises:
            StopRequestedError: if a signal ends it.
        """
        with self._interruption.abandoning():
            return self._source.rollout(requests, options, on_finished)


class SampledPrompts(NamedTuple):
    """Requests and their trajectories, row by row; those of one prompt follow one another."""

    requests: list[RolloutRequest]
    trajectories: list[Trajectory]


class NextPrompts:
    """Rolls the next rows out while the step waits; its state is the rows it has used up."""

    def __init__(self, requests: PromptRequests, source: RolloutSource) -> None:
        self._requests = requests
        self._source = source

    def sample(self, step: int, count: int) -> SampledPrompts:
        """``count`` prompts, rolled out; blocks until they are."""
        prompts = self._requests.take(step, count)
        requests = [request for _, of_one in prompts for request in of_one]
        return SampledPrompts(requests, self._source.rollout(requests, self._requests.options))

    def metrics(self) -> dict[str, float]:
        """About the prompts given since the last call; nothing where the step waits for them."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Of the rows."""
        return self._requests.rows.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of the rows."""
        self._requests.rows.load_state_dict(state)

    def close(self) -> None:
        """Ends what is under way; between two steps nothing is."""
