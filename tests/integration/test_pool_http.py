from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from router_r1.llm_agent.route_service import access_routing_pool
from router_r1.pool.client import PoolClient, PoolUnreachableError, check_endpoints
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.hosted.faults import FAULT_KINDS
from router_r1.pool.ledger import Ledger
from router_r1.pool.offer import OfferConfig, Offers
from router_r1.pool.outcome import MAX_CHARACTERS_PER_TOKEN, CallResult, Outcome
from router_r1.pool.recording import RecordingConfig
from router_r1.pool.reply import estimate_tokens
from router_r1.world.simulated_llm import World
from router_r1.world.simulated_pool import reachable_pool
from tests.integration.faults import CHAOS, fault, faults


def ask_all(
    pool: PoolConfig,
    asked: list[tuple[str, str]],
    count_tokens: Callable[[str], int] = estimate_tokens,
) -> list[CallResult]:
    async def run() -> list[CallResult]:
        client = PoolClient(pool, count_tokens=count_tokens)
        try:
            return list(await asyncio.gather(*(client.ask(*pair) for pair in asked)))
        finally:
            await client.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def queries(world: World) -> list[tuple[str, str]]:
    names = sorted(world.llms)
    hops = [hop for q in world.knowledge.questions("test") for hop in q.hops][:60]
    return [(names[i % len(names)], hop.query) for i, hop in enumerate(hops)]


def test_replies_and_costs_are_the_worlds(
    served_pool: PoolConfig, world: World, queries: list[tuple[str, str]]
) -> None:
    for (name, query), result in zip(queries, ask_all(served_pool, queries), strict=True):
        expected = world.reply(name, query)
        llm = served_pool.resolve(name)
        assert llm is not None
        assert (result.outcome, result.text) == (Outcome.OK, expected.text)
        assert result.completion_tokens == expected.completion_tokens
        assert result.cost == expected.completion_tokens * llm.completion_price
        dollars = result.cost + expected.prompt_tokens * llm.prompt_price
        assert result.dollars == pytest.approx(dollars / 1e6)


def test_a_question_asks_by_its_own_names_and_prices_and_the_ledger_by_the_pools(
    served_pool: PoolConfig, world: World, queries: list[tuple[str, str]]
) -> None:
    settings = OfferConfig(size=3, names=["Ada", "Bo", "Cy"], price_jitter=0.5)
    offered = Offers(settings, served_pool).draw(random.Random(0))
    query = queries[0][1]

    async def run() -> tuple[list[CallResult], CallResult, Ledger]:
        client = PoolClient(served_pool)
        results = [await client.ask(llm.name, query, offered) for llm in offered.pool.llms]
        by_own_name = await client.ask("Atlas", query, offered)
        await client.close()
        return results, by_own_name, client.ledger

    results, by_own_name, ledger = asyncio.run(run())
    assert by_own_name.outcome is Outcome.UNKNOWN_LLM
    asked = {offered.owner_of(shown).name for shown in offered.pool.llms}
    assert {name for name, account in ledger.accounts.items() if account.calls} == asked
    for shown, result in zip(offered.pool.llms, results, strict=True):
        own = offered.owner_of(shown)
        expected = world.reply(own.name, query)
        assert (result.llm, result.text) == (own.name, expected.text)
        assert shown.completion_price != own.completion_price
        assert result.cost == expected.completion_tokens * shown.completion_price
        paid = expected.completion_tokens * own.completion_price
        paid += expected.prompt_tokens * own.prompt_price
        assert ledger.accounts[own.name].spent_usd == pytest.approx(paid / 1e6)


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("status_500", Outcome.SERVER_ERROR),
        ("status_429", Outcome.RATE_LIMITED),
        ("cut", Outcome.CONNECTION_ERROR),
        ("hang", Outcome.TIMEOUT),
        ("malformed_json", Outcome.MALFORMED),
        ("error_in_200", Outcome.RATE_LIMITED),
        ("error_in_list", Outcome.RATE_LIMITED),
    ],
)
def test_every_fault_is_one_typed_outcome_that_costs_nothing(
    served_pool: PoolConfig, kind: str, outcome: Outcome
) -> None:
    pool = replace(served_pool, request_timeout_s=0.5) if kind == "hang" else served_pool
    with fault(pool, kind):
        (result,) = ask_all(pool, [("Atlas", "the director of Nobody Known")])
    assert (result.outcome, result.text) == (outcome, None)
    assert (result.cost, result.dollars, result.completion_tokens) == (0.0, 0.0, 0)
    assert result.latency_s < 3


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("empty_choices", Outcome.MALFORMED),
        ("only_reasoning", Outcome.EMPTY),
        ("unclosed_think", Outcome.EMPTY),
    ],
)
def test_a_reply_that_says_nothing_costs_what_was_billed(
    served_pool: PoolConfig, world: World, kind: str, outcome: Outcome
) -> None:
    query = "the director of Nobody Known"
    with fault(served_pool, kind):
        (result,) = ask_all(served_pool, [("Atlas", query)])
    expected = world.reply("Atlas", query)
    assert (result.outcome, result.text) == (outcome, None)
    assert (result.prompt_tokens, result.completion_tokens) == (
        expected.prompt_tokens,
        expected.completion_tokens,
    )
    assert result.cost > 0
    assert result.dollars > result.cost / 1e6


@pytest.mark.parametrize(
    "kind", ["think_in_reply", "content_parts", "unasked_stream", "lying_encoding"]
)
def test_what_surrounds_a_reply_does_not_change_it(
    served_pool: PoolConfig, queries: list[tuple[str, str]], world: World, kind: str
) -> None:
    with fault(served_pool, kind):
        results = ask_all(served_pool, queries)
    for (name, query), result in zip(queries, results, strict=True):
        expected = world.reply(name, query)
        assert (result.outcome, result.text) == (Outcome.OK, expected.text)
        assert result.completion_tokens == expected.completion_tokens


def test_missing_usage_is_counted_by_a_tokenizer_and_flagged(
    served_pool: PoolConfig, queries: list[tuple[str, str]]
) -> None:
    with fault(served_pool, "missing_usage"):
        results = ask_all(served_pool, queries, count_tokens=lambda text: len(text.split()))
    for result in results:
        assert (result.outcome, result.usage_estimated) == (Outcome.OK, True)
        assert result.text is not None
        assert result.completion_tokens == len(result.text.split())
        llm = served_pool.resolve(result.llm)
        assert llm is not None
        assert result.cost == result.completion_tokens * llm.completion_price
        assert result.dollars > result.cost / 1e6, "the prompt is counted too"


def test_a_completion_counts_whatever_its_content_type(
    served_pool: PoolConfig, queries: list[tuple[str, str]]
) -> None:
    with fault(served_pool, "wrong_content_type"):
        assert {r.outcome for r in ask_all(served_pool, queries)} == {Outcome.OK}


def test_a_huge_reply_is_bounded(served_pool: PoolConfig) -> None:
    with fault(served_pool, "huge_reply"):
        (result,) = ask_all(served_pool, [("Atlas", "the director of Nobody Known")])
    assert result.outcome is Outcome.OK
    assert result.text is not None
    assert len(result.text) == MAX_CHARACTERS_PER_TOKEN * 512


def test_a_reply_cannot_carry_our_key_away(
    served_pool: PoolConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not into the trajectory, nor into the recording."""
    monkeypatch.setenv(served_pool.api_key_env, "sk-planted-for-the-echo")
    path = tmp_path / "calls.sqlite"
    pool = replace(served_pool, recording=RecordingConfig("record", str(path)))
    with fault(pool, "echo_headers"):
        (result,) = ask_all(pool, [("Atlas", "the director of Nobody Known")])
    assert result.text is not None
    assert "Bearer ***" in result.text
    for file in tmp_path.iterdir():
        assert b"sk-planted" not in file.read_bytes()


def test_a_pause_that_the_endpoint_asks_for_is_kept(served_pool: PoolConfig) -> None:
    """Half of the calls are told to wait 0.4 s: none of the second attempts is sooner."""
    pool = replace(served_pool, max_retries=6, request_timeout_s=20.0)
    asked = [("Atlas", f"the director of Nobody {i}") for i in range(20)]
    with faults(pool, {"status_429": 0.5}, retry_after_s=0.4):
        results = ask_all(pool, asked)
    assert {r.outcome for r in results} == {Outcome.OK}
    assert max(r.latency_s for r in results) >= 0.4


def test_a_pause_longer_than_the_longest_wait_ends_the_call_at_once(
    served_pool: PoolConfig,
) -> None:
    pool = replace(served_pool, queue_timeout_s=20.0)
    with faults(pool, {"status_429": 1.0}, retry_after_s=30.0):
        (result,) = ask_all(pool, [("Atlas", "the director of Nobody Known")])
    assert result.outcome is Outcome.RATE_LIMITED
    assert result.latency_s < pool.request_timeout_s / 2


def test_the_rate_limit_spaces_calls_out(served_pool: PoolConfig) -> None:
    llms = [replace(llm, requests_per_minute=1200.0) for llm in served_pool.llms]
    asked = [("Atlas", f"the director of Nobody {i}") for i in range(21)]
    start = time.monotonic()
    results = ask_all(replace(served_pool, llms=llms, request_timeout_s=20.0), asked)
    assert {r.outcome for r in results} == {Outcome.OK}
    assert time.monotonic() - start >= 20 * 60 / 1200


def test_an_llm_that_keeps_failing_is_left_alone_and_comes_back(served_pool: PoolConfig) -> None:
    """The others go on meanwhile."""
    pool = replace(served_pool, max_retries=0, breaker_failures=3, breaker_cooldown_s=0.3)
    query = "the director of Nobody Known"

    async def run() -> list[str]:
        client = PoolClient(pool)
        seen = []
        try:
            with fault(pool, "status_500"):
                for _ in range(5):
                    seen.append((await client.ask("Atlas", query)).outcome.value)
            seen.append((await client.ask("Draco", query)).outcome.value)
            seen.append((await client.ask("Atlas", query)).outcome.value)
            await asyncio.sleep(0.35)
            seen.append((await client.ask("Atlas", query)).outcome.value)
        finally:
            await client.close()
        return seen

    down = ["server_error"] * 3 + ["unavailable"] * 2
    assert asyncio.run(run()) == [*down, "ok", "unavailable", "ok"]


@pytest.mark.parametrize("limit_usd", [2e-6, 2e-4, 1e-3])
def test_spending_never_passes_the_limit(
    served_pool: PoolConfig, queries: list[tuple[str, str]], limit_usd: float
) -> None:
    """All calls at once; what the limit refuses could not have been afforded."""
    pool = replace(served_pool, budget_usd=limit_usd)

    async def run() -> tuple[list[CallResult], PoolClient]:
        client = PoolClient(pool)
        try:
            return list(await asyncio.gather(*(client.ask(*pair) for pair in queries))), client
        finally:
            await client.close()

    results, client = asyncio.run(run())
    spent = sum(result.dollars for result in results)
    assert spent <= limit_usd
    assert client.budget.spent_usd == pytest.approx(spent)
    assert client.ledger.spent_usd == pytest.approx(spent)
    refused = [result for result in results if result.outcome is Outcome.BUDGET]
    assert client.budget.exhausted == bool(refused)
    assert {result.outcome for result in results} <= {Outcome.OK, Outcome.BUDGET}
    if limit_usd > 1e-4:
        assert spent > 0
    if limit_usd == 1e-3:
        dearest = max(llm.max_tokens * llm.completion_price for llm in pool.llms) / 1e6
        assert not refused or spent + 2 * dearest > limit_usd


def test_chaos_leaves_every_call_typed_and_the_books_balanced(
    served_pool: PoolConfig, queries: list[tuple[str, str]], world: World
) -> None:
    """480 calls at once against every fault there is."""
    assert set(CHAOS) == set(FAULT_KINDS) - {"echo_headers"}
    pool = replace(served_pool, request_timeout_s=4.0, breaker_failures=1000, budget_usd=10.0)

    async def run() -> tuple[list[CallResult], PoolClient]:
        client = PoolClient(pool)
        try:
            calls = (client.ask(*pair) for pair in queries * 8)
            return list(await asyncio.gather(*calls)), client
        finally:
            await client.close()

    with faults(pool, CHAOS, seed=3, retry_after_s=0.05):
        results, client = asyncio.run(run())
    assert {r.outcome for r in results} >= {Outcome.OK, Outcome.EMPTY, Outcome.MALFORMED}
    for (name, query), result in zip(queries * 8, results, strict=True):
        assert (result.text is None) == (result.outcome is not Outcome.OK)
        assert result.text is None or "First I think" not in result.text
        if result.completion_tokens and not result.usage_estimated:
            assert result.completion_tokens == world.reply(name, query).completion_tokens
        llm = pool.resolve(name)
        assert llm is not None
        assert result.cost == result.completion_tokens * llm.completion_price
    spent = sum(result.dollars for result in results)
    assert client.budget.spent_usd == pytest.approx(spent)
    assert client.ledger.spent_usd == pytest.approx(spent)


def test_retries_carry_calls_through_a_flaky_pool(
    served_pool: PoolConfig, queries: list[tuple[str, str]]
) -> None:
    """With 30% of the calls failing, 8 retries leave 1 call in 50,000 unanswered."""
    pool = replace(served_pool, max_retries=8, request_timeout_s=30.0)
    with fault(pool, "status_500", rate=0.3, seed=1):
        results = ask_all(pool, queries)
    assert {result.outcome for result in results} == {Outcome.OK}
    with fault(pool, "status_500", rate=0.3, seed=1):
        results = ask_all(replace(pool, max_retries=0), queries)
    assert {result.outcome for result in results} == {Outcome.OK, Outcome.SERVER_ERROR}


def test_an_unknown_name_is_not_sent(served_pool: PoolConfig) -> None:
    (result,) = ask_all(served_pool, [("Zeus", "the director of Nobody Known")])
    assert (result.llm, result.outcome, result.cost) == ("Zeus", Outcome.UNKNOWN_LLM, 0.0)


def test_a_refused_call_is_not_retried(served_pool: PoolConfig) -> None:
    stranger = LLMConfig(name="Stranger", model="sim/stranger", completion_price=1.0)
    pool = replace(
        served_pool, llms=[*served_pool.llms, stranger], max_retries=5, retry_backoff_s=5.0
    )
    (result,) = ask_all(pool, [("Stranger", "hello")])
    assert result.outcome is Outcome.REFUSED
    assert result.latency_s < 2


def test_an_unreachable_pool_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    llm = LLMConfig(name="A", model="a", completion_price=1.0)
    with pytest.raises(PoolUnreachableError, match=url):
        asyncio.run(check_endpoints(PoolConfig(name="mine", llms=[llm], api_base=url)))
    with pytest.raises(PoolUnreachableError, match="no endpoint for A"):
        asyncio.run(check_endpoints(PoolConfig(name="mine", llms=[llm])))


def test_a_reachable_pool_passes(served_pool: PoolConfig) -> None:
    asyncio.run(check_endpoints(served_pool))


def test_a_dead_server_fails_calls_and_raises_nothing(embedded_pool: PoolConfig) -> None:
    with reachable_pool(replace(embedded_pool, retry_backoff_s=0.01), time_scale=0.0) as pool:
        (alive,) = ask_all(pool, [("Atlas", "the director of Nobody Known")])
    (dead,) = ask_all(pool, [("Atlas", "the director of Nobody Known")])
    assert (alive.outcome, dead.outcome) == (Outcome.OK, Outcome.CONNECTION_ERROR)


def test_the_originals_function_still_answers(served_pool: PoolConfig) -> None:
    """The paper's names are unknown to this server, so every call fails in the original's words."""
    assert served_pool.api_base is not None
    replies = access_routing_pool(
        ["Nobody: what?", "Qwen2.5-7B-Instruct: what?"], served_pool.api_base, "key"
    )
    assert replies == {
        "result": ["LLM Name Error", "API Request Error"],
        "completion_tokens_list": [0.0, 0.0],
    }
