"""The page that follows a run: what it is told, and whom it is served to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router_r1.evaluation.watch.page import describe, overview, phase_text
from router_r1.evaluation.watch.run_state import Phase, RunState
from router_r1.evaluation.watch.server import WatchServer
from router_r1.pool.config import PoolConfig
from router_r1.world.simulated_llm import World
from tests.run_files import write_samples
from tests.world_records import HOSTILE, world_records
from verl.errors import UserError
from verl.trainer.evaluation.records import EvaluationRecord

CONFIG = {
    "trainer": {"total_training_steps": 40},
    "pool": {"name": "embedded", "simulated": True},
    "reward_metric": "em",
    "cost_coe": 0.3,
}


@pytest.fixture(scope="module")
def records(world: World, embedded_pool: PoolConfig) -> list[EvaluationRecord]:
    return world_records(world, embedded_pool, 6)


def row(step: int, **others: float) -> dict[str, Any]:
    """Metrics of a training step of 10 s."""
    return {
        "step": step,
        "critic/score/mean": 0.25,
        "reward/em": 0.5,
        "timing_s/step": 10.0,
        "pool/spent_usd": 0.5 * step,
        "pool/spent_usd_at_end": 20.0,
        "pool/spent_usd/Atlas": 0.5 * step,
        "pool/outcome/ok": 100.0,
        "reward/calls/Atlas": 1.5,
        **others,
    }


def training(*rows: dict[str, Any]) -> RunState:
    return RunState("run", Phase.TRAINING, CONFIG, list(rows))


def test_figures_are_those_of_the_newest_rows() -> None:
    validation = {"step": 0, "val/test_score/EM/all": 0.125, "pool/outcome/ok": 11.0}
    later = {"step": 2, "val/test_score/EM/all": 0.75}
    shown = overview(training(validation, row(1), row(2, **{"pool/outcome/timeout": 7.0}), later))
    for text in (
        "step 2 of 40",
        "about 6 min left",  # 38 steps of 10 s
        '<span class="card-value">0.750</span>',
        "before training 0.125",
        "Spent (simulated)",
        '<span class="card-value">$1.00</span>',
        "about $20.00 at the end",
        "<b>211</b> answered",
        "<b>7</b> timeout",
        "Calls per question to each LLM",
    ):
        assert text in shown, text


def test_a_run_that_has_only_been_validated_is_drawn_without_a_scale_of_nothing() -> None:
    shown = overview(training({"step": 0, "val/test_score/EM/all": 0.125, "pool/spent_usd/A": 0.1}))
    assert "e-09" not in shown
    assert 'scope="row">A</th>' in shown, "whom a validation asked is known"


def test_after_the_last_step_nothing_but_a_validation_is_left() -> None:
    assert "last validation is under way" in phase_text(training(row(40)))
    assert "10 s left" in phase_text(training(row(39)))


def test_every_phase_says_what_is_going_on() -> None:
    told = {phase_text(RunState("run", phase)) for phase in Phase}
    assert len(told) == len(Phase)
    ended = RunState("run", Phase.ENDED, summary={"seconds": {"total": 7300.0}})
    assert "after 2 h 2 min" in phase_text(ended)


def test_a_pool_of_real_llms_is_not_called_simulated() -> None:
    paid = replace(training(row(1)), config={"pool": {"name": "mine"}})
    assert '<span class="card-name">Spent</span>' in overview(paid)


def test_the_version_changes_with_what_is_shown_and_with_nothing_else(
    records: list[EvaluationRecord],
) -> None:
    before = describe(training(row(1)))
    assert describe(replace(training(row(1)), written_at=5.0)) == before
    versions = {
        before["version"],
        describe(training(row(1), row(2)))["version"],
        describe(replace(training(row(1)), phase=Phase.ENDED))["version"],
        describe(replace(training(row(1)), samples={1: records}))["version"],
    }
    assert len(versions) == 4


def test_samples_come_newest_step_first_with_their_rewards_rule(
    records: list[EvaluationRecord],
) -> None:
    state = replace(training(row(2)), samples={2: records[:2], 1: records[2:4]})
    samples = describe(state)["samples"]
    assert samples["index"]["rows"]["step"] == [2, 2, 1, 1]
    assert samples["index"]["rows"]["uid"] == [record.uid for record in records[:4]]
    assert samples["index"]["metric"] == "em"
    assert {detail["cost_coe"] for detail in samples["details"]} == {0.3}
    assert [detail["gold"] for detail in samples["details"]] == [
        record.ground_truth for record in records[:4]
    ]
    assert describe(training(row(1)))["samples"] is None


def test_a_runs_config_says_how_its_rewards_came_about(records: list[EvaluationRecord]) -> None:
    """Also what stands under ``reward``; without a config the scores tell what they can."""
    reward = {"form": "multiplicative", "cost_unit": "dollars", "latency_coe": 0.2}
    samples = replace(training(row(1)), samples={1: records})
    told = describe(replace(samples, config=CONFIG | {"reward": reward}))["samples"]["index"]
    assert {name: told[name] for name in reward} == reward
    own = describe(replace(samples, config=CONFIG | {"reward": {"function": "mine:Judge"}}))
    assert own["samples"]["index"]["metric"] == "mine:Judge"
    for config in ({}, {"pool": 3}, CONFIG | {"reward": 3}):
        unknown = describe(replace(samples, config=config))["samples"]["index"]
        assert (unknown["metric"], unknown["inferred"]) == ("em", True)


def test_names_from_the_folder_are_text() -> None:
    hostile = row(1, **{f"reward/calls/{HOSTILE}": 1.0})
    shown = describe(replace(training(hostile), faults=[HOSTILE]))["overview"]
    assert "<script" not in shown
    assert "<img" not in shown
    assert "&lt;script&gt;window.pwned=1" in shown


# -- the server --------------------------------------------------------------------------------


def ask(folder: Path, steps: Callable[[aiohttp.ClientSession, str], Awaitable[Any]]) -> Any:
    """What ``steps`` returns, given a client and the address of a server on ``folder``."""

    async def run() -> Any:
        server = WatchServer(folder, port=0)
        url = await server.start()
        try:
            async with aiohttp.ClientSession() as client:
                return await steps(client, url)
        finally:
            await server.stop()

    return asyncio.run(run())


def test_a_state_is_sent_once_and_again_when_it_changes(
    tmp_path: Path, records: list[EvaluationRecord]
) -> None:
    async def steps(client: aiohttp.ClientSession, url: str) -> None:
        async def state(known: str) -> tuple[int, dict[str, Any]]:
            async with client.get(f"{url}state", params={"known": known}) as reply:
                return reply.status, await reply.json() if reply.status == 200 else {}

        status, first = await state("")
        assert (status, first["phase"]) == (200, "not begun")
        assert await state(first["version"]) == (204, {})
        (tmp_path / "metrics.jsonl").write_text(json.dumps(row(1)) + "\n", encoding="utf-8")
        write_samples(tmp_path, 1, records)
        status, second = await state(first["version"])
        assert (status, second["phase"], second["progress"]) == (200, "training", "step 1")
        assert len(second["samples"]["details"]) == len(records)

    ask(tmp_path, steps)


def test_the_page_loads_nothing_and_asks_its_own_server_only(tmp_path: Path) -> None:
    async def steps(client: aiohttp.ClientSession, url: str) -> tuple[str, Any]:
        async with client.get(url) as reply:
            return await reply.text(), reply.headers

    page, headers = ask(tmp_path / "<run>", steps)
    assert "default-src &#39;none&#39;" in page
    assert "connect-src &#39;self&#39;" in page
    assert "<title>&lt;run&gt;</title>" in page
    assert "https://" not in page
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("localhost", 200),
        ("evil.example:8321", 403),
        ("127.0.0.1.nip.io", 403),
    ],
)
def test_a_foreign_name_for_this_machine_is_refused(tmp_path: Path, host: str, status: int) -> None:
    async def steps(client: aiohttp.ClientSession, url: str) -> int:
        async with client.get(f"{url}state", headers={"Host": host}) as reply:
            return reply.status

    assert ask(tmp_path, steps) == status


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    async def steps(_: aiohttp.ClientSession, url: str) -> None:
        port = int(url.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}.*--port"):
            await WatchServer(tmp_path, port).start()

    ask(tmp_path, steps)
