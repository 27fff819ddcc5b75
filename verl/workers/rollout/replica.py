"""One engine's process, and another in its place when it is lost.

Guarantees: a generation returns what the engine sampled, also if the process died or hung meanwhile
and another took its place; all generations that were on a lost process wait for the same restart,
and are then asked for again. With a seed of its own a generation is then the same as it would have
been.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from verl.interfaces import GenerationOutput, SamplingParams
from verl.utils.surroundings import SurroundingsError
from verl.workers.rollout.errors import EngineDeadError, RolloutEngineError

logger = logging.getLogger(__name__)

_MOST_FRUITLESS = 3


class _LostError(Exception):
    """The process does not answer any more; the message says why one thinks so."""


class RestartLimit:
    """How often the engines of a run may be started again, all together; ``taken``: so far."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.taken = 0

    def take(self, replica: Replica, reason: str) -> None:
        """One more, of a replica that is lost for ``reason``; :class:`EngineDeadError` at the
        limit, or if another process would only die like those before."""
        with self._lock:
            given_up = f"{replica.name} is lost: {reason}. It is not started again, since"
            hint = "VERL_WORKER_LOGS=1 shows what the engines say"
            if self.taken >= self._limit:
                raise EngineDeadError(
                    f"{given_up} engines were {self.taken} times already "
                    f"(actor_rollout_ref.rollout.max_restarts={self._limit}); {hint}"
                )
            if replica.fruitless >= _MOST_FRUITLESS:
                raise EngineDeadError(
                    f"{given_up} {replica.fruitless} processes in a row were lost before they "
                    f"generated anything; {hint}"
                )
            self.taken += 1
        logger.warning(
            "%s is lost and is started again (%d of at most %d restarts): %s",
            *(replica.name, self.taken, self._limit, reason),
        )


class Replica:
    """One engine.

    Args:
        start: starts a process in the engine's place; a handle of
            :class:`~verl.workers.rollout.replica_actor.VLLMReplicaActor`.
        replace: blocks until this replica has another process that can go on in the place of the
            one given, which is lost for the reason given; raises if there is none.

    Attributes:
        name: for messages.
        actor: handle of the present process.
        load: generations under way.
        fruitless: processes in a row, the present one included, that have ended no generation.
        generation_timeout_s: a process that has generations under way and ends none of them for so
            long hangs; None waits without limit.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Any],
        replace: Callable[[Replica, Any, str], None],
        generation_timeout_s: float | None,
    ) -> None:
        self.name = name
        self.generation_timeout_s = generation_timeout_s
        self.load = 0
        self.fruitless = 1
        self._start = start
        self._replace = replace
        self._lock = threading.Lock()
        self._restarting = threading.Lock()
        self._closed = False
        self._last_end = 0.0
        self._replacing: asyncio.Task[None] | None = None
        self.actor = start()

    async def generate(
        self, prompt_ids: Sequence[int], sampling: SamplingParams
    ) -> GenerationOutput:
        """See :class:`verl.interfaces.GenerationEngine`; :class:`RolloutEngineError` if the engine
        refuses the request, or is lost and not replaced."""
        while True:
            if self._replacing is not None:
                await self._replacing
            actor = self.actor
            try:
                return await self._ask(actor, list(prompt_ids), sampling)
            except _LostError as lost:
                await self._replaced(actor, str(lost))

    async def _ask(
        self, actor: Any, prompt_ids: list[int], sampling: SamplingParams
    ) -> GenerationOutput:
        try:
            output: GenerationOutput = await self._in_time(
                actor.generate.remote(prompt_ids, sampling)
            )
        except RayError as error:
            if await self._answers(actor):
                raise RolloutEngineError(f"{self.name} failed: {error}") from error
            raise _LostError(_loss(error)) from error
        self._last_end = time.monotonic()
        self.fruitless = 0
        return output

    async def _in_time(self, reference: Any) -> Any:
        """The result, while the process still ends some generation in time."""
        result = asyncio.wrap_future(reference.future())
        asked = time.monotonic()
        try:
            while not result.done():
                limit, left = self.generation_timeout_s, None
                if limit is not None:
                    left = max(asked, self._last_end) + limit - time.monotonic()
                    if left <= 0:
                        raise _LostError(f"no generation has ended for {limit:g} s")
                await asyncio.wait([result], timeout=left)
            return result.result()
        finally:
            result.cancel()

    async def _answers(self, actor: Any) -> bool:
        """Whether the process and the engine in it live: then it was the request."""
        try:
            await asyncio.wait_for(actor.ready.remote(), self.generation_timeout_s)
        except (RayError, TimeoutError):
            return False
        return True

    async def _replaced(self, lost: Any, reason: str) -> None:
        """Returns once ``lost`` is no longer the process; whoever comes first sees to it."""
        if self._replacing is None:
            if self.actor is not lost:
                return
            self._replacing = asyncio.create_task(
                asyncio.to_thread(self._replace, self, lost, reason)
            )
            self._replacing.add_done_callback(self._end_replacing)
        await self._replacing

    def _end_replacing(self, _task: asyncio.Task[None]) -> None:
        self._replacing = None

    def find_fault(self) -> str | None:
        """Why the process must be replaced; None if the engine answers. Blocks."""
        if self._closed:  # Ray ends a process a moment after it was told to
            return "it was shut down"
        try:
            ray.get(self.actor.ready.remote(), timeout=self.generation_timeout_s)
        except GetTimeoutError:
            return f"it has not answered for {self.generation_timeout_s:g} s"
        except RayError as error:
            return _loss(error)
        return None

    def restart(
        self, lost: Any, reason: str, limit: RestartLimit, timeout_s: float, holds: bool
    ) -> bool:
        """Ends the process ``lost``, whatever it does, and starts another; blocks until that runs.
        False if another runs already: two may notice one loss.

        Args:
            timeout_s: of the start, seconds.
            holds: the new process generates nothing before its weights were updated.

        Raises:
            EngineDeadError: at the limit.
            RolloutEngineError: if it does not start in time, or this replica was closed.
        """
        with self._restarting:
            if self.actor is not lost:
                return False
            limit.take(self, reason)
            with self._lock:
                ray.kill(lost, no_restart=True)
                if self._closed:
                    raise RolloutEngineError(
                        f"{self.name} was shut down while it was started again"
                    )
                started = self._start()
                if holds:  # before anybody can ask it
                    started.hold.remote()
                self.actor = started
                self.fruitless += 1
            try:
                ray.get(started.ready.remote(), timeout=timeout_s)
            except RayError as error:
                raise RolloutEngineError(
                    f"{self.name} was lost and did not start again within {timeout_s:g} s: "
                    f"{reason_of(error)}"
                ) from error
            return True

    def close(self) -> None:
        """Ends the process; no other is started."""
        with self._lock:
            self._closed = True
            ray.kill(self.actor, no_restart=True)


def _loss(error: RayError) -> str:
    """In one line: of a dead process Ray knows no more than that, of a live one the error."""
    if isinstance(error, RayActorError):
        return "its process has died"
    return _own_words(error) or str(error).strip().rpartition("\n")[2]


def reason_of(error: RayError) -> str:
    """What the machine lacks or the engine said, in one line; of any other failure all that Ray
    knows."""
    return _own_words(error) or str(error)


def _own_words(error: RayError) -> str | None:
    """The message of an exception that this package raised in the actor, with which Ray ends."""
    kind, _, message = str(error).strip().rpartition("\n")[2].partition(": ")
    told = (SurroundingsError, RolloutEngineError, EngineDeadError)
    return message if kind.endswith(tuple(each.__name__ for each in told)) else None
