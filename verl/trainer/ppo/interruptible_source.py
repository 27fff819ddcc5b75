"""Rollouts that a signal abandons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

from verl.interfaces import RolloutOptions, RolloutRequest, RolloutSource
from verl.trainer.interruption import Interruption
from verl.trajectory import Trajectory


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
