"""Which calls are sent, with a sender that counts instead of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from router_r1.pool.call_cache import CallCache
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.recording import RecordingConfig, Request


class Sender:
    """Answers when told; knows what was sent and what was given up."""

    def __init__(self, outcome: Outcome = Outcome.OK) -> None:
        self.answered = asyncio.Event()
        self.sent: list[str] = []
        self.given_up = 0
        self._outcome = outcome

    def __call__(self, llm: str) -> Callable:
        async def send() -> CallResult:
            self.sent.append(llm)
            try:
                await self.answered.wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
            return CallResult(llm, self._outcome, "x" if self._outcome is Outcome.OK else None)

        return send


def request(query: str) -> Request:
    return Request("m", [{"role": "user", "content": query}], {})


def start(cache: CallCache, sender: Sender, llm: str, query: str) -> asyncio.Task[CallResult]:
    return asyncio.ensure_future(cache.get(request(query), llm, sender(llm)))


@pytest.fixture
def replay_or_call(tmp_path: Path) -> RecordingConfig:
    return RecordingConfig("replay_or_call", str(tmp_path / "calls.sqlite"))


def test_equal_calls_under_way_at_once_are_sent_once(replay_or_call: RecordingConfig) -> None:
    async def run() -> None:
        cache, sender = CallCache(replay_or_call), Sender()
        equal = [start(cache, sender, "A", "q") for _ in range(3)]
        others = [start(cache, sender, "A", "other"), start(cache, sender, "B", "q")]
        await asyncio.sleep(0)
        sender.answered.set()
        results = await asyncio.gather(*equal, *others)
        assert sorted(sender.sent) == ["A", "A", "B"]
        assert [r.llm for r in results] == ["A", "A", "A", "A", "B"]
        assert [r.replayed for r in results] == [False, True, True, False, False]
        await start(cache, sender, "A", "q")
        assert len(sender.sent) == 4, "what has ended and was not kept is sent again"
        cache.close()

    asyncio.run(run())


def test_without_a_recording_and_in_record_mode_every_call_is_sent(tmp_path: Path) -> None:
    async def run(config: RecordingConfig) -> int:
        cache, sender = CallCache(config), Sender()
        sender.answered.set()
        await asyncio.gather(*(start(cache, sender, "A", "q") for _ in range(3)))
        cache.close()
        return len(sender.sent)

    assert asyncio.run(run(RecordingConfig())) == 3
    assert asyncio.run(run(RecordingConfig("record", str(tmp_path / "calls.sqlite")))) == 3


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.TIMEOUT])
def test_once_is_once_also_for_what_failed(outcome: Outcome) -> None:
    async def run() -> None:
        cache, sender = CallCache(RecordingConfig(), once=True), Sender(outcome)
        sender.answered.set()
        results = [await start(cache, sender, "A", "q") for _ in range(3)]
        assert sender.sent == ["A"]
        assert [r.replayed for r in results] == [False, True, True]
        assert {r.outcome for r in results} == {outcome}

    asyncio.run(run())


@pytest.mark.parametrize("once", [False, True])
def test_a_call_is_given_up_with_the_last_who_waits(
    replay_or_call: RecordingConfig, once: bool
) -> None:
    async def run() -> None:
        cache, sender = CallCache(replay_or_call, once), Sender()
        first, second = (start(cache, sender, "A", "q") for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        assert (sender.given_up, second.done()) == (0, False)
        second.cancel()
        third = start(cache, sender, "A", "q")
        await asyncio.sleep(0.01)
        assert sender.given_up == 1
        sender.answered.set()
        assert (await third).outcome is Outcome.OK
        assert sender.sent == ["A", "A"]
        cache.close()

    asyncio.run(run())
