"""The loop that agents run on: a thread with an event loop, one coroutine a request, no barrier.

Guarantees: every request yields exactly one trajectory, in request order; an exception of one ends
the rollout, and the others with it; after :meth:`AgentLoop.close` no thread is left.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from verl.interfaces import RolloutOptions, RolloutRequest
from verl.trajectory import RecordT, Trajectory

T = TypeVar("T")


class AgentLoop(ABC, Generic[RecordT]):
    """Implements :class:`verl.interfaces.RolloutSource` for an agent that says how one request is
    run."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rollout", daemon=True)
        self._thread.start()

    @abstractmethod
    async def run_one(
        self, request: RolloutRequest, options: RolloutOptions
    ) -> Trajectory[RecordT]:
        """One trajectory; awaited on the loop. Cancelling it must end all that it has begun."""

    async def release(self) -> None:
        """Frees what the agent holds on the loop, before it ends; nothing by default."""
        return

    def start(
        self,
        requests: Sequence[RolloutRequest],
        options: RolloutOptions,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> Future[list[Trajectory[RecordT]]]:
        """One trajectory per request, in order, once all have ended; cancelling it ends them."""

        async def one(request: RolloutRequest) -> Trajectory[RecordT]:
            trajectory = await self.run_one(request, options)
            if on_finished is not None:
                on_finished(trajectory)
            return trajectory

        async def all_of_them() -> list[Trajectory[RecordT]]:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(request)) for request in requests]
            except ExceptionGroup as failed:  # all failed for one reason: the engine
                raise failed.exceptions[0] from failed
            return [task.result() for task in tasks]

        return asyncio.run_coroutine_threadsafe(all_of_them(), self._loop)

    def rollout(
        self,
        requests: Sequence[RolloutRequest],
        options: RolloutOptions,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory[RecordT]]:
        """One trajectory per request, in order; blocks until all have ended."""
        return _wait(self.start(requests, options, on_finished))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop and blocks until it ends.

        An exception in the blocked thread (Ctrl-C) cancels it.
        """
        return _wait(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def pending_tasks(self) -> int:
        """Coroutines under way on the loop; 0 between rollouts."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return self.run(count())

    def close(self) -> None:
        """Frees what the agent holds and ends the thread."""
        self.run(self.release())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _wait(future: Future[T]) -> T:
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
