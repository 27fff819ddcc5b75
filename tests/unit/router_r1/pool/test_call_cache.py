"""Which calls are sent, with a sender that counts instead of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from router_r1.pool.call_cache import CallCache
from router_r1.pool.client import PoolClient
from router_r1.pool.config import PoolConfig
from router_r1.pool.hosted.server import SimulatedPoolServer, SimulatedReply, listening
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


@pytest.mark.parametrize("asked", [False, True])
def test_equal_calls_under_way_at_once_are_sent_once(
    replay_or_call: RecordingConfig, asked: bool
) -> None:
    config = RecordingConfig() if asked else replay_or_call

    async def run() -> None:
        cache, sender = CallCache(config, shares=asked), Sender()
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


class SlowSource:
    """An LLM that takes a while, and numbers its replies."""

    def __init__(self) -> None:
        self.asked = 0

    def reply(self, llm: str, query: str) -> SimulatedReply:
        self.asked += 1
        return SimulatedReply(f"{llm}: {query} {self.asked}", 10, 20, latency_s=0.2)


@pytest.mark.parametrize(("shares", "sent"), [(False, 5), (True, 2)])
def test_a_client_that_shares_calls_pays_equal_ones_once(
    embedded_pool: PoolConfig, shares: bool, sent: int
) -> None:
    async def run() -> None:
        source = SlowSource()
        server = SimulatedPoolServer(source.reply, {"sim/atlas": "Atlas"}, time_scale=1.0)
        async with listening(server.application()) as url:
            pool = replace(embedded_pool, api_base=url, share_equal_calls=shares)
            client = PoolClient(pool)
            asked = [client.ask("Atlas", query) for query in ("q", "q", "q", "q", "other")]
            results = await asyncio.gather(*asked)
            await client.close()
        assert source.asked == sent
        assert len({result.text for result in results}) == sent
        assert {result.cost for result in results} == {20.0}, "in each trajectory, as if alone"
        account = client.ledger.accounts["Atlas"]
        assert (account.calls, account.cost) == (5, 100.0)
        paid = (10 * 0.5 + 20 * 1.0) / 1e6 * sent
        assert client.ledger.spent_usd == pytest.approx(paid)
        assert client.budget.spent_usd == pytest.approx(paid)

    asyncio.run(run())


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
        cache, sender = CallCache(replay_or_call, once=once), Sender()
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
