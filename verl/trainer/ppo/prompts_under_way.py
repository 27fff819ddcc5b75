"""Asynchronous training: the prompts of the next step are rolled out while this one trains.

The one difference to :class:`~verl.trainer.ppo.prompts.NextPrompts`: a step takes the prompts that
have ended, and leaves those that still wait for a slow call to the next step. Engines get new
weights with rollouts under way, so a trajectory may be sampled by several policies; each token's
log-prob is that of the policy that sampled it, and the importance weights or the ratio of the loss
go by that (Fu et al. 2025, "AReaL", section 5).

Guarantees: between two steps as many prompts are under way as a step takes, after the last step
none; one that was begun for step ``t`` is given at step ``t``, ``t + 1`` or ``t + 2``, the oldest
first; all trajectories of a prompt come together; a checkpoint counts the rows that are under way
as not used up, and a run that goes on from it begins with them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from verl.interfaces import RolloutRequest, RolloutSource
from verl.trainer.ppo.prompts import NextPrompts, PromptRequests, SampledPrompts
from verl.trajectory import Trajectory

_MOST_STEPS_LATE = 2


@dataclass(frozen=True, eq=False)
class _Prompt:
    """One under way, begun by ``step`` for itself or the next."""

    step: int
    row: int
    requests: list[RolloutRequest]
    result: Future[list[Trajectory]]


class PromptsUnderWay(NextPrompts):
    """Keeps a step's prompts, ``per_step``, under way beside training; ``abandoning`` wraps the
    waiting, which a signal may end."""

    def __init__(
        self,
        requests: PromptRequests,
        source: RolloutSource,
        per_step: int,
        total_steps: int,
        abandoning: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(requests, source)
        self._per_step = per_step
        self._total_steps = total_steps
        self._abandoning = abandoning
        self._prompts: list[_Prompt] = []  # in the order in which they were begun
        self._late: list[int] = []

    def sample(self, step: int, count: int) -> SampledPrompts:
        """See :class:`~verl.trainer.ppo.prompts.NextPrompts`."""
        ahead = self._per_step if step < self._total_steps else 0
        missing = max(0, count + ahead - len(self._prompts))
        for row, requests in self._requests.take(step, missing):
            result = self._source.start(requests, self._requests.options)
            self._prompts.append(_Prompt(step, row, requests, result))
        with self._abandoning():
            while not self._enough(step, count):
                wait(
                    [p.result for p in self._prompts if not p.result.done()], None, FIRST_COMPLETED
                )
        given = [prompt for prompt in self._prompts if prompt.result.done()][:count]
        self._prompts = [prompt for prompt in self._prompts if prompt not in given]
        self._late += [step - prompt.step for prompt in given]
        return SampledPrompts(
            [request for prompt in given for request in prompt.requests],
            [trajectory for prompt in given for trajectory in prompt.result.result()],
        )

    def _enough(self, step: int, count: int) -> bool:
        done = [prompt.result.done() for prompt in self._prompts]
        overdue = sum(prompt.step <= step - _MOST_STEPS_LATE for prompt in self._prompts)
        return sum(done) >= count and all(done[:overdue])

    def metrics(self) -> dict[str, float]:
        """``rollout/steps_late``: steps between a prompt's beginning and its use, mean and max;
        and how many are under way."""
        late, self._late = self._late, []
        return {
            "rollout/steps_late/mean": float(np.mean(late)) if late else 0.0,
            "rollout/steps_late/max": float(max(late, default=0)),
            "rollout/prompts_under_way": float(len(self._prompts)),
        }

    def state_dict(self) -> dict[str, Any]:
        """Of the rows, those under way among the returned ones."""
        state = super().state_dict()
        return {**state, "returned": [prompt.row for prompt in self._prompts] + state["returned"]}

    def close(self) -> None:
        """Ends all that are under way."""
        for prompt in self._prompts:
            prompt.result.cancel()
        self._prompts = []
