"""Which calls are sent: none that a recording answers, and none that an equal one already brings.

Guarantees: with ``replay_or_call``, and where it is asked for, equal calls under way at once are
sent once; a call that several callers wait for is given up when the last of them is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.recording import Recording, RecordingConfig, Request


@dataclass
class _SharedCall:
    task: asyncio.Task[CallResult]
    waiting: int = 0  # callers


class CallCache:
    """The calls of one client; raises :class:`UserError` if the recording cannot be opened.

    Args:
        shares: equal calls under way at once are sent once, whatever the recording.
        once: an equal call is never sent again, not even one that failed.
    """

    def __init__(self, config: RecordingConfig, shares: bool = False, once: bool = False) -> None:
        self._recording = Recording(config) if config.mode != "off" else None
        self._shares = shares or once or config.mode == "replay_or_call"
        self._once = once
        self._shared: dict[tuple[str, str], _SharedCall] = {}

    @property
    def sends(self) -> bool:
        """Whether calls that are not known are sent."""
        return self._recording is None or self._recording.sends

    async def get(
        self, request: Request, llm: str, send: Callable[[], Coroutine[Any, Any, CallResult]]
    ) -> CallResult:
        """What the call brings; ``replayed`` where it was known, without cost if from a file."""
        if self._recording is not None:
            recorded = self._recording.find(request, llm)
            if recorded is not None:
                return recorded
            if not self._recording.sends:
                return CallResult(llm, Outcome.NOT_RECORDED)
        if not self._shares:
            return await send()
        key = llm, request.key
        known = key in self._shared
        if not known:
            self._shared[key] = _SharedCall(asyncio.create_task(send()))
        call = self._shared[key]
        call.waiting += 1
        try:
            result = await asyncio.shield(call.task)
            return replace(result, replayed=True) if known else result
        finally:
            call.waiting -= 1
            given_up = not call.waiting and not call.task.done()
            if given_up:
                call.task.cancel()
            if (given_up or not self._once) and self._shared.get(key) is call:
                del self._shared[key]

    def keep(self, request: Request, result: CallResult) -> None:
        """Records a call that was sent."""
        if self._recording is not None:
            self._recording.keep(request, result)

    def close(self) -> None:
        """Closes the recording."""
        if self._recording is not None:
            self._recording.close()
