"""``python -m router_r1.pool`` and pools of several endpoints, from YAML alone."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from router_r1.llm_agent.route_service import access_routing_pool
from router_r1.pool.client import PoolClient
from router_r1.pool.command import main
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.pool.recording import RecordingConfig
from router_r1.world.simulated_pool import reachable_pool
from tests.integration.commands import ROOT
from tests.integration.faults import fault

QUERY = "the director of Nobody Known"


def llm(name: str, model: str, **more: object) -> dict[str, object]:
    price = {"completion_price": 1.0, "prompt_price": 0.5, "descriptor": f"{name} is a model."}
    return {"name": name, "model": model, **price, **more}


@pytest.fixture(scope="module")
def second_pool(embedded_pool: PoolConfig) -> Iterator[PoolConfig]:
    """Another server."""
    with reachable_pool(embedded_pool, time_scale=0.0) as pool:
        yield pool


@pytest.fixture
def mixed(served_pool: PoolConfig, second_pool: PoolConfig, tmp_path: Path) -> Path:
    """Two endpoints at once: one is the pool's, one an LLM's own."""
    path = tmp_path / "mine.yaml"
    content = {
        "name": "mine",
        "api_base": served_pool.api_base,
        "llms": [
            llm("Big", "sim/atlas", aliases=["the-big-one"]),
            llm("Small", "sim/fornax", base_url=second_pool.api_base, api_key_env="OTHER_KEY"),
        ],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_two_endpoints_work_from_one_file(
    mixed: Path, served_pool: PoolConfig, second_pool: PoolConfig
) -> None:
    pool = replace(load_pool(mixed), max_retries=0)

    async def outcomes() -> list[str]:
        client = PoolClient(pool)
        try:
            names = ("Big", "THE-BIG-ONE", "Small")
            return [(await client.ask(name, QUERY)).outcome.value for name in names]
        finally:
            await client.close()

    assert asyncio.run(outcomes()) == ["ok", "ok", "ok"]
    with fault(second_pool, "status_500"):
        assert asyncio.run(outcomes()) == ["ok", "ok", "server_error"]
    with fault(served_pool, "status_500"):
        assert asyncio.run(outcomes()) == ["server_error", "server_error", "ok"]


def test_each_endpoint_gets_its_own_key(
    mixed: Path,
    served_pool: PoolConfig,
    second_pool: PoolConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A key that came back from the other endpoint would stand in its reply unmasked."""
    monkeypatch.setenv("ROUTER_R1_API_KEY", "sk-of-the-pool")
    monkeypatch.setenv("OTHER_KEY", "sk-of-the-other")
    pool = replace(load_pool(mixed), recording=RecordingConfig("record", f"{tmp_path}/c.sqlite"))

    async def replies() -> list[str | None]:
        client = PoolClient(pool)
        try:
            return [(await client.ask(name, QUERY)).text for name in ("Big", "Small")]
        finally:
            await client.close()

    with fault(served_pool, "echo_headers"), fault(second_pool, "echo_headers"):
        for text in asyncio.run(replies()):
            assert text is not None
            assert "Bearer ***" in text
            assert "sk-of" not in text


def test_check_passes_a_good_pool(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(mixed)]) == 0
    output = capsys.readouterr().out
    assert "all 2 LLMs of pool 'mine' answer" in output
    assert output.count("ready") == 2


def test_check_without_calls_sends_none(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(mixed), "--no_calls", "--api_base", "http://127.0.0.1:9/v1"]) == 0
    assert capsys.readouterr().out.count("not asked") == 2


def test_check_names_what_does_not_answer(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    content = yaml.safe_load(mixed.read_text())
    content["llms"][1]["base_url"] = url
    content["llms"].append(llm("Wrong", "sim/nobody"))
    content["max_retries"] = 0
    mixed.write_text(yaml.safe_dump(content))
    assert main(["check", str(mixed)]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "not usable: Small, Wrong" in output
    assert "does not" not in output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"completion_price": None}, ["completion_price"]),
        ({"name": "the-big-one"}, ["'the-big-one'", "already taken by 'Big'"]),
        ({"name": "A:B"}, ["A:B", "cannot be a name"]),
        ({"price": 3}, ["price", "completion_price"]),
        ({"concurrency": 0}, ["concurrency", "> 0"]),
        ({"temperature": "warm"}, ["temperature", "warm"]),
    ],
)
def test_check_refuses_a_broken_file(
    mixed: Path, change: dict[str, object], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(mixed.read_text())
    content["llms"][1].update(change)
    content["llms"][1] = {k: v for k, v in content["llms"][1].items() if v is not None}
    mixed.write_text(yaml.safe_dump(content))
    assert main(["check", str(mixed)]) == 2
    output = " ".join(capsys.readouterr().out.split())
    for word in words:
        assert word in output


def test_describe_writes_a_pool_with_drafts(mixed: Path, tmp_path: Path) -> None:
    target = tmp_path / "described.yaml"
    assert main(["describe", str(mixed), "--writer", "Big", "--output", str(target)]) == 0
    before, after = load_pool(mixed), load_pool(target)
    for old, new in zip(before.llms, after.llms, strict=True):
        assert new == replace(old, descriptor="I do not know.")
    assert main(["describe", str(mixed), "--output", str(target)]) == 2, "never overwrites"
    assert main(["describe", str(mixed), "--writer", "X", "--output", f"{target}2"]) == 2


def test_export_writes_parquet(mixed: Path, tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    pool = replace(load_pool(mixed), recording=RecordingConfig("record", str(path)))
    access_routing_pool([f"Big: {QUERY}"], pool=pool)
    assert main(["export", str(path), str(tmp_path / "calls.parquet")]) == 0
    assert (tmp_path / "calls.parquet").is_file()
    assert main(["export", str(tmp_path / "gone"), str(tmp_path / "x.parquet")]) == 2


@pytest.mark.parametrize("name", ["paper", "embedded", "local", "tools"])
def test_the_pools_that_come_along_are_valid(name: str) -> None:
    pool = load_pool(name)
    for offered in pool.offered:
        assert pool.resolve(offered.name) is offered
        assert offered.descriptor


def test_a_pool_of_any_script_is_checked_in_an_ascii_locale(tmp_path: Path) -> None:
    pool = "name: p\napi_base: http://127.0.0.1:9/v1\nllms: [{name: 模型, model: é, %s: 1}]\n"
    (tmp_path / "p.yaml").write_text(pool % "completion_price", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "router_r1.pool", "check", "--no_calls", str(tmp_path / "p.yaml")],
        cwd=ROOT,
        env={**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
        capture_output=True,
        encoding="ascii",
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert "Pool p at http://127.0.0.1:9/v1" in run.stdout
    assert "no descriptor: ??" in run.stdout
