"""What an engine outside Ray raises: who is refused, who has lost it, and whose own fault it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from verl.interfaces import SamplingParams
from verl.workers.rollout.errors import EngineDeadError, RolloutEngineError
from verl.workers.rollout.vllm_engine import VLLMEngine


class Failing:
    """In the replica's place: every generation raises, and it may be dead since."""

    def __init__(self, error: Exception, dead: bool) -> None:
        self._error, self._dead = error, dead

    async def generate(self, *_: Any) -> None:
        raise self._error

    async def ready(self) -> bool:
        if self._dead:
            raise self._error
        return True


@pytest.mark.parametrize(
    ("error", "dead", "kind", "words"),
    [
        (ValueError("too long"), False, RolloutEngineError, "failed: too long"),
        (ValueError("a broken step"), True, EngineDeadError, "has died: a broken step"),
        (RuntimeError("out of memory"), True, EngineDeadError, "has died: out of memory"),
        (ConnectionResetError("the reader has gone"), False, ConnectionResetError, "gone"),
    ],
)
def test_only_an_engine_that_does_not_answer_is_called_dead(
    error: Exception, dead: bool, kind: type[Exception], words: str
) -> None:
    engine = object.__new__(VLLMEngine)
    engine._replica = Failing(error, dead)  # type: ignore[assignment]
    with pytest.raises(kind, match=words) as raised:
        asyncio.run(engine.generate([1], SamplingParams(max_tokens=1), "session"))
    assert type(raised.value) is kind
