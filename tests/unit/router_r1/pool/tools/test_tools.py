"""Tools beside an LLM of a real HTTP endpoint: asked, and in what is told of a pool."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from router_r1.pool.client import PoolClient
from router_r1.pool.command import main
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.readiness import pool_lines
from router_r1.pool.recording import RecordingConfig
from router_r1.pool.tools.bm25 import NOTHING_FOUND
from router_r1.reward.format import call_is_valid
from router_r1.world.cold_start.setting import Setting
from router_r1.world.cold_start.traces import TraceDataset
from router_r1.world.config import ColdStartConfig
from tests.pool_stub import StubEndpoint, in_turn, ok, pool_at, stub
from verl.config.paths import make_paths_absolute
from verl.config.validation import ConfigError
from verl.utils.checklist import Verdict
from verl.utils.dataset import DataError

CORPUS = """The Danube flows into the Black Sea.

The Rhine flows into the North Sea,
and rises in the Alps.

Denali is a mountain of Alaska."""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(CORPUS)
    return path


def search_of(corpus: Path, **changes: Any) -> LLMConfig:
    return LLMConfig(
        "Atlas",
        kind="search",
        corpus=str(corpus),
        completion_price=3.0,
        prompt_price=1.0,
        **changes,
    )


CALCULATOR = LLMConfig("Calculator", kind="calculator", completion_price=5.0)


def pool_of(url: str, corpus: Path, **changes: Any) -> PoolConfig:
    """LLM "A" behind HTTP, and the two tools."""
    pool = pool_at(url, **changes)
    return replace(pool, llms=[*pool.llms, search_of(corpus), CALCULATOR])


def with_client(pool: PoolConfig, use: Callable[[PoolClient], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        client = PoolClient(pool)
        try:
            return await use(client)
        finally:
            await client.close()

    return asyncio.run(run())


def ask(pool: PoolConfig, *asked: tuple[str, str]) -> list[CallResult]:
    async def all_of(client: PoolClient) -> list[CallResult]:
        return list(await asyncio.gather(*(client.ask(*pair) for pair in asked)))

    return with_client(pool, all_of)  # type: ignore[no-any-return]


@pytest.fixture
def alone(corpus: Path) -> PoolConfig:
    """Tools only: no endpoint at all."""
    return PoolConfig(name="tools", llms=[search_of(corpus), CALCULATOR])


def test_tools_and_llms_answer_side_by_side_and_cost_their_tokens(corpus: Path) -> None:
    with stub(in_turn(ok())) as endpoint:
        llm, found, value = ask(
            pool_of(endpoint.url, corpus),
            ("A", "Who wrote Dune?"),
            ("atlas", "where does the Rhine rise"),
            ("Calculator", "3 * (4 + 5)"),
        )
        assert len(endpoint.sent) == 1
    assert (llm.outcome, llm.text) == (Outcome.OK, "Herbert")
    assert found.text is not None
    assert found.text.splitlines() == [
        "The Rhine flows into the North Sea, and rises in the Alps.",
        "The Danube flows into the Black Sea.",
    ]
    assert (found.llm, found.outcome, found.usage_estimated) == ("Atlas", Outcome.OK, False)
    assert (found.prompt_tokens, found.completion_tokens) == (5, 19)
    assert (found.cost, found.dollars) == (57.0, pytest.approx(62e-6))
    assert (value.text, value.completion_tokens, value.cost) == ("27", 1, 5.0)


def test_what_a_tool_can_do_nothing_with_is_a_reply_that_the_policy_reads(
    alone: PoolConfig,
) -> None:
    nothing, error, blank = ask(
        alone, ("Atlas", "zebra"), ("Calculator", "9**9**9"), ("Calculator", "  ")
    )
    assert (nothing.outcome, nothing.text) == (Outcome.OK, NOTHING_FOUND)
    assert (error.outcome, error.text) == (Outcome.OK, "Error: a value is too large.")
    assert error.cost == error.completion_tokens * 5.0 > 0
    assert (blank.outcome, blank.cost) == (Outcome.INVALID_QUERY, 0.0)


def test_a_reply_ends_with_its_passages_and_max_tokens(alone: PoolConfig, corpus: Path) -> None:
    for changes, words in (({"passages": 1}, 12), ({"max_tokens": 4}, 4)):
        pool = replace(alone, llms=[search_of(corpus, **changes)])
        (result,) = ask(pool, ("Atlas", "where does the Rhine rise"))
        assert result.text is not None
        assert (len(result.text.split()), result.completion_tokens) == (words, words)


def test_ledger_health_and_budget_count_tools(alone: PoolConfig) -> None:
    async def use(client: PoolClient) -> PoolClient:
        for _ in range(12):
            await client.ask("Calculator", "what?")
        await client.ask("Calculator", "1 + 1")
        await client.ask("Atlas", "Denali")
        return client

    client = with_client(replace(alone, budget_usd=1.0), use)
    accounts = client.ledger.accounts
    assert (accounts["Calculator"].answered, accounts["Atlas"].calls) == (13, 1)
    assert client.budget.spent_usd == pytest.approx(client.ledger.spent_usd)
    assert client.ledger.spent_usd > 0
    assert client.health.end_rollout() is None
    (refused,) = ask(replace(alone, budget_usd=1e-9), ("Calculator", "1 + 1"))
    assert refused.outcome is Outcome.BUDGET


def test_a_recording_knows_a_tool_by_its_query_and_its_corpus(
    alone: PoolConfig, corpus: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / "calls.sqlite")
    asked = (("Atlas", "Denali"), ("Calculator", "6 * 7"))
    recorded = ask(replace(alone, recording=RecordingConfig("record", path)), *asked)
    replay = replace(alone, recording=RecordingConfig("replay", path))
    replayed = ask(replay, *asked)
    assert all(result.replayed for result in replayed)
    assert [(r.text, r.cost) for r in replayed] == [(r.text, r.cost) for r in recorded]
    assert ask(replay, ("Calculator", "7 * 6"))[0].outcome is Outcome.NOT_RECORDED
    corpus.write_text("Denali is elsewhere.")
    changed, same = ask(replay, *asked)
    assert (changed.outcome, same.text) == (Outcome.NOT_RECORDED, "42")


def test_equal_calls_under_way_at_once_can_be_shared(alone: PoolConfig) -> None:
    first, second = ask(replace(alone, share_equal_calls=True), *[("Atlas", "Denali")] * 2)
    assert (first.replayed, second.replayed) == (False, True)
    assert first.text == second.text


def test_other_calls_go_on_while_a_tool_works(
    alone: PoolConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a search that takes longer than ``request_timeout_s`` is a typed outcome."""
    released = threading.Event()
    monkeypatch.setattr(
        "router_r1.pool.tools.bm25.BM25.search", lambda *_: released.wait(10) and []
    )

    async def use(client: PoolClient) -> tuple[CallResult, CallResult]:
        searching = asyncio.create_task(client.ask("Atlas", "Denali"))
        await asyncio.sleep(0.05)
        value = await client.ask("Calculator", "1 + 1")
        assert not searching.done()
        late = await searching
        released.set()
        return value, late

    value, late = with_client(replace(alone, request_timeout_s=0.3, max_retries=0), use)
    assert (value.text, late.outcome) == ("2", Outcome.TIMEOUT)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "sarch"}, "kind='sarch' is not allowed; choose one of: llm, search, calculator"),
        ({"kind": "search"}, "Tool: kind=search needs corpus"),
        ({"kind": "search", "corpus": "c", "model": "m"}, "does not read model; leave it out"),
        ({"kind": "search", "corpus": "c", "passages": 0}, "passages must be > 0, got 0"),
        ({"kind": "calculator", "corpus": "c"}, "kind=calculator does not read corpus"),
        ({"kind": "calculator", "passages": 2}, "does not read passages"),
        (
            {"kind": "calculator", "base_url": "http://x", "temperature": 1.0, "concurrency": 4},
            "does not read temperature, base_url, concurrency",
        ),
        ({"kind": "calculator", "request": {"stream": True}}, "does not read request"),
        ({"model": "m", "corpus": "c"}, "kind=llm does not read corpus"),
        ({}, "Tool: model must be set"),
        ({"kind": "calculator", "completion_price": None}, "completion_price"),
    ],
)
def test_a_key_that_a_kind_does_not_read_is_refused_when_the_file_is_read(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    member = {"name": "Tool", "completion_price": 1.0, **fields}
    member = {key: value for key, value in member.items() if value is not None}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "llms": [member]}))
    with pytest.raises(ConfigError) as caught:
        load_pool(path)
    assert words in str(caught.value)


def test_the_papers_name_matching_knows_no_tools() -> None:
    """Its rules give every unknown name the model "", which would then be the tool."""
    paper = load_pool("paper")
    with pytest.raises(ConfigError, match="'Calculator' is one; use name_matching=exact"):
        replace(paper, llms=[*paper.llms, CALCULATOR])


def test_a_call_of_a_tool_keeps_the_rules_of_the_format(alone: PoolConfig) -> None:
    assert call_is_valid("Calculator: 3 * (4 + 5)", alone)
    assert not call_is_valid("Calculator: 3:4", alone)


def test_a_corpus_that_cannot_be_used_ends_the_start(alone: PoolConfig, corpus: Path) -> None:
    corpus.unlink()
    with pytest.raises(DataError, match=f"no such corpus: {corpus}"):
        PoolClient(alone)
    (tool, calculator) = pool_lines(alone, None)
    assert (tool.subject, tool.verdict) == ("pool tool Atlas", Verdict.NOT_OK)
    assert "no such corpus" in tool.found
    assert calculator.verdict is Verdict.OK


def test_readiness_has_a_line_for_each_tool_and_asks_for_no_key_of_theirs(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROUTER_R1_API_KEY", raising=False)
    with stub(in_turn(ok())) as endpoint:
        lines = pool_lines(pool_of(endpoint.url, corpus, api_key_env="KEY_OF_A"), None)
    told = {line.subject: (line.verdict, line.found) for line in lines}
    assert len(lines) == 4
    assert told["pool tool Atlas"] == (Verdict.OK, f"search in 3 passages of {corpus}")
    assert told["pool tool Calculator"] == (Verdict.OK, "calculator")
    assert "pool key $KEY_OF_A" in told


def file_of(tmp_path: Path, endpoint: StubEndpoint, corpus: Path) -> Path:
    a = {"name": "A", "model": "a", "completion_price": 1.0, "prompt_price": 1.0}
    price = {"completion_price": 0.02, "descriptor": "as it is"}
    tools = [
        {"name": "Atlas", "kind": "search", "corpus": str(corpus), **price},
        {"name": "Calculator", "kind": "calculator", **price, "completion_price": 9.0},
    ]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "api_base": endpoint.url, "llms": [a, *tools]}))
    return path


def test_check_shows_tools_and_names_a_corpus_that_is_missing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stub(in_turn(ok())) as endpoint:
        path = file_of(tmp_path, endpoint, corpus)
        assert main(["check", str(path)]) == 0
        shown = capsys.readouterr().out
        assert shown.count("ready") == 3
        assert "(search)" in shown
        assert "all 3 LLMs and tools of pool 'mine' answer" in shown
        assert "no prompt_price" not in shown
        corpus.unlink()
        for more in ([], ["--no_calls"]):
            assert main(["check", str(path), *more]) == 2
            captured = capsys.readouterr()
            said = " ".join((captured.out + captured.err).split())
            assert "no such corpus" in said
            assert "Traceback" not in said


def test_describe_asks_an_llm_and_leaves_tools_as_they_are(corpus: Path, tmp_path: Path) -> None:
    with stub(in_turn(ok("a paragraph"))) as endpoint:
        path = file_of(tmp_path, endpoint, corpus)
        target = tmp_path / "described.yaml"
        assert main(["describe", str(path), "--output", str(target)]) == 0
        assert len(endpoint.sent) == 1
        assert main(["describe", str(path), "--writer", "Atlas", "--output", f"{target}2"]) == 2
    before, after = load_pool(path), load_pool(target)
    assert after.llms == [replace(before.llms[0], descriptor="a paragraph"), *before.llms[1:]]


def test_describe_needs_an_llm(tmp_path: Path) -> None:
    path = tmp_path / "tools.yaml"
    members = [{"name": "C", "kind": "calculator", "completion_price": 1.0}]
    path.write_text(yaml.safe_dump({"name": "tools", "llms": members}))
    assert main(["describe", str(path), "--output", str(tmp_path / "x.yaml")]) == 2
    assert main(["check", str(path)]) == 0


def test_a_corpus_of_a_run_is_where_the_command_was_given(alone: PoolConfig) -> None:
    pool = replace(alone, llms=[replace(alone.llms[0], corpus="here.txt"), CALCULATOR])
    make_paths_absolute(pool, Path("/given"))
    assert [llm.corpus for llm in pool.llms] == ["/given/here.txt", None]


def test_a_cold_start_calls_tools_as_often_as_llms(policy_folder: Path) -> None:
    pool = load_pool("tools")
    config = ColdStartConfig(copy_steps=0, no_reply_share=0.0)
    dataset = TraceDataset(str(policy_folder), Setting(pool), config)
    counts = dict.fromkeys((llm.name for llm in pool.offered), 0)
    for example in dataset.sample_batch(1, 60):
        text = dataset._tokenizer.decode(example["input_ids"]).replace(" ", "")
        calls = text.split("Question")[1].split("<search>")[1:]
        for call in calls:
            counts[call.split(":")[0]] += 1
    assert max(counts.values()) - min(counts.values()) <= 1
