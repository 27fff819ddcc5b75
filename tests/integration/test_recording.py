"""Calls recorded over real HTTP are replayed without it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from router_r1.pool.client import PoolClient
from router_r1.pool.config import PoolConfig
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.recording import RecordingConfig, export_parquet
from router_r1.world.simulated_llm import World
from tests.integration.faults import fault
from verl.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings" / "calls.sqlite"


@pytest.fixture(scope="module")
def asked(world: World) -> list[tuple[str, str]]:
    names = sorted(world.llms)
    hops = [hop for q in world.knowledge.questions("test")[:40] for hop in q.hops]
    return [(names[i % len(names)], hop.query) for i, hop in enumerate(hops)]


def ask(
    pool: PoolConfig, mode: str, path: Path, asked: list[tuple[str, str]]
) -> tuple[list[CallResult], PoolClient]:
    async def run() -> tuple[list[CallResult], PoolClient]:
        recording = RecordingConfig(mode, str(path))
        client = PoolClient(replace(pool, recording=recording, request_timeout_s=20.0))
        try:
            return list(await asyncio.gather(*(client.ask(*pair) for pair in asked))), client
        finally:
            await client.close()

    return asyncio.run(run())


def nowhere(pool: PoolConfig) -> PoolConfig:
    """The same pool at an address where nothing listens."""
    return replace(pool, api_base="http://127.0.0.1:9/v1", max_retries=0)


def test_a_replay_repeats_every_call_and_spends_nothing(
    served_pool: PoolConfig, path: Path, asked: list[tuple[str, str]]
) -> None:
    with fault(served_pool, "malformed_json", rate=0.3, seed=2):
        recorded, first = ask(served_pool, "record", path, asked)
    assert {r.outcome for r in recorded} == {Outcome.OK, Outcome.MALFORMED}
    replayed, second = ask(nowhere(served_pool), "replay", path, asked)
    assert [replace(result, replayed=False) for result in replayed] == recorded
    assert all(result.replayed for result in replayed)
    assert first.ledger.spent_usd == pytest.approx(sum(r.dollars for r in recorded))
    assert second.ledger.spent_usd == second.budget.spent_usd == 0.0


def test_a_replay_takes_present_prices(
    served_pool: PoolConfig, path: Path, asked: list[tuple[str, str]]
) -> None:
    recorded, _ = ask(served_pool, "record", path, asked)
    dearer = [replace(llm, completion_price=2 * llm.completion_price) for llm in served_pool.llms]
    replayed, _ = ask(replace(served_pool, llms=dearer), "replay", path, asked)
    for before, after in zip(recorded, replayed, strict=True):
        assert after.cost == pytest.approx(2 * before.cost)


def test_what_was_not_recorded_is_not_sent(
    served_pool: PoolConfig, path: Path, asked: list[tuple[str, str]]
) -> None:
    ask(served_pool, "record", path, asked[:5])
    replayed, _ = ask(served_pool, "replay", path, asked)
    outcomes = Counter(result.outcome for result in replayed)
    assert outcomes[Outcome.OK] >= 5
    assert outcomes[Outcome.NOT_RECORDED] == len(asked) - outcomes[Outcome.OK]
    changed = [replace(llm, temperature=0.5) for llm in served_pool.llms]
    replayed, _ = ask(replace(served_pool, llms=changed), "replay", path, asked[:5])
    assert {r.outcome for r in replayed} == {Outcome.NOT_RECORDED}, "other sampling, other call"


def test_replay_or_call_sends_only_what_has_no_answer(
    served_pool: PoolConfig, path: Path, asked: list[tuple[str, str]]
) -> None:
    with fault(served_pool, "malformed_json"):
        ask(served_pool, "record", path, asked[5:10])
    ask(served_pool, "record", path, asked[:5])
    results, client = ask(served_pool, "replay_or_call", path, asked[:10])
    assert {r.outcome for r in results} == {Outcome.OK}
    assert [r.replayed for r in results] == [True] * 5 + [False] * 5
    assert client.ledger.spent_usd == pytest.approx(sum(r.dollars for r in results[5:]))
    results, _ = ask(nowhere(served_pool), "replay", path, asked[:10])
    assert {r.outcome for r in results} == {Outcome.OK}, "it kept what it sent"


def test_a_failure_does_not_overwrite_an_answer(
    served_pool: PoolConfig, path: Path, asked: list[tuple[str, str]]
) -> None:
    answers, _ = ask(served_pool, "record", path, asked[:5])
    ask(nowhere(served_pool), "record", path, asked[:5])
    replayed, _ = ask(served_pool, "replay", path, asked[:5])
    assert [r.text for r in replayed] == [r.text for r in answers]


def test_two_clients_share_a_file(
    served_pool: PoolConfig, path: Path, asked: list[tuple[str, str]]
) -> None:
    async def run() -> None:
        pool = replace(served_pool, recording=RecordingConfig("record", str(path)))
        clients = [PoolClient(pool) for _ in range(2)]
        try:
            await asyncio.gather(
                *(clients[i % 2].ask(*pair) for i, pair in enumerate(asked) for _ in range(2))
            )
        finally:
            for client in clients:
                await client.close()

    asyncio.run(run())
    replayed, _ = ask(served_pool, "replay", path, asked)
    assert {r.outcome for r in replayed} == {Outcome.OK}


def test_a_recording_exports_to_parquet(
    served_pool: PoolConfig, path: Path, asked: list[tuple[str, str]], tmp_path: Path
) -> None:
    recorded, _ = ask(served_pool, "record", path, asked)
    count = export_parquet(path, tmp_path / "calls.parquet")
    frame = pd.read_parquet(tmp_path / "calls.parquet")
    assert count == len(frame) == len(set(asked))
    assert set(frame["reply"]) == {r.text for r in recorded}
    assert frame["completion_tokens"].min() > 0


def test_what_is_no_recording_is_named(path: Path, tmp_path: Path, served_pool: PoolConfig) -> None:
    with pytest.raises(UserError, match="no recording to replay"):
        ask(served_pool, "replay", path, [])
    with pytest.raises(UserError, match="no such recording"):
        export_parquet(path, tmp_path / "out.parquet")
    text = tmp_path / "notes.txt"
    text.write_text("this is a long enough text that is no SQLite file at all" * 20)
    with pytest.raises(UserError, match="cannot be used as a recording"):
        ask(served_pool, "record", text, [])
    with pytest.raises(UserError, match="is no recording"):
        export_parquet(text, tmp_path / "out.parquet")
