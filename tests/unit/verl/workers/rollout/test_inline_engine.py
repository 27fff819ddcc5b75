"""The thread that steps vLLM's engine, with a stand-in for vLLM that fails when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from verl.workers.rollout import inline_engine
from verl.workers.rollout.inline_engine import InlineEngine


@dataclass
class Output:
    request_id: str
    tokens: int
    finished: bool


@dataclass
class StandIn:
    """Each step gives each request a token; ``params`` is how many it wants, -1 breaks the step."""

    engine_core: Any = field(default_factory=lambda: SimpleNamespace(shutdown=lambda: None))
    wanted: dict[str, int] = field(default_factory=dict)
    given: dict[str, int] = field(default_factory=dict)

    def has_unfinished_requests(self) -> bool:
        return bool(self.wanted)

    def add_request(self, request_id: str, prompt: str, params: int) -> None:
        if not prompt:
            raise ValueError("an empty prompt")
        self.wanted[request_id] = params

    def abort_request(self, request_ids: list[str]) -> None:
        for request_id in request_ids:
            self.wanted.pop(request_id, None)

    def step(self) -> list[Output]:
        if -1 in self.wanted.values():
            raise RuntimeError("out of memory")
        outputs = []
        for request_id, wanted in list(self.wanted.items()):
            self.given[request_id] = self.given.get(request_id, 0) + 1
            finished = self.given[request_id] == wanted
            outputs.append(Output(request_id, self.given[request_id], finished))
            if finished:
                del self.wanted[request_id]
        return outputs

    def collective_rpc(self, method: str, kwargs: Any) -> list[Any]:
        return [getattr(self, method)(**(kwargs or {}))]


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def engine(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[InlineEngine]:
    monkeypatch.setattr(inline_engine, "_start", lambda arguments, threads: stand_in)  # noqa: ARG005
    engine = InlineEngine({}, None)
    yield engine
    engine.shutdown()


async def tokens(engine: InlineEngine, name: str, wanted: int, prompt: str = "p") -> list[int]:
    generation: Any = engine.generate(prompt, wanted, name)  # type: ignore[arg-type]
    return [output.tokens async for output in generation]


def test_requests_get_their_own_outputs_until_they_are_finished(engine: InlineEngine) -> None:
    async def run() -> list[list[int]]:
        return await asyncio.gather(*(tokens(engine, f"r{n}", n) for n in range(1, 20)))

    assert asyncio.run(run()) == [list(range(1, n + 1)) for n in range(1, 20)]


def test_a_refused_request_harms_no_other(engine: InlineEngine) -> None:
    async def run() -> list[Any]:
        calls = (tokens(engine, "good", 3), tokens(engine, "bad", 3, prompt=""))
        return await asyncio.gather(*calls, return_exceptions=True)

    good, bad = asyncio.run(run())
    assert good == [1, 2, 3]
    assert isinstance(bad, ValueError)


def test_a_reader_that_leaves_takes_its_request_along(
    engine: InlineEngine, stand_in: StandIn
) -> None:
    async def run() -> None:
        endless = asyncio.create_task(tokens(engine, "endless", 10**9))
        while not stand_in.given.get("endless"):
            await asyncio.sleep(0.001)
        endless.cancel()
        await asyncio.wait([endless])
        await engine.check_health()

    asyncio.run(run())
    assert stand_in.wanted == {}


def test_commands_run_between_steps_and_return_their_result(engine: InlineEngine) -> None:
    async def run() -> list[Any]:
        endless = asyncio.create_task(tokens(engine, "endless", 10**9))
        await asyncio.sleep(0)  # the request goes first
        results = await engine.collective_rpc("has_unfinished_requests")
        endless.cancel()
        await asyncio.wait([endless])
        return results

    assert asyncio.run(run()) == [True]


def test_a_step_that_fails_fails_all_that_wait_and_all_that_come(
    engine: InlineEngine, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> list[Any]:
        calls = [tokens(engine, "endless", 10**9), tokens(engine, "broken", -1)]
        waiting = await asyncio.gather(*calls, return_exceptions=True)
        late = await asyncio.gather(tokens(engine, "late", 1), return_exceptions=True)
        return [*waiting, *late]

    errors = asyncio.run(asyncio.wait_for(run(), timeout=10))
    assert [str(error) for error in errors] == ["out of memory"] * 3
    assert "the vLLM engine has died" in caplog.text


def test_an_engine_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: Any, threads: Any) -> None:  # noqa: ARG001
        raise OSError("no weights")

    monkeypatch.setattr(inline_engine, "_start", fail)
    with pytest.raises(OSError, match="no weights"):
        InlineEngine({}, None)
