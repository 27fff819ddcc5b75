from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from router_r1.llm_agent.route_service import access_routing_pool
from router_r1.pool.client import PoolClient, PoolUnreachableError, check_endpoints
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.world.knowledge import WorldConfig
from router_r1.world.process import simulated_pool
from router_r1.world.simulated_llm import World
from tests.integration.faults import fault


def ask_all(pool: PoolConfig, asked: list[tuple[str, str]]) -> list[CallResult]:
    async def run() -> list[CallResult]:
        client = PoolClient(pool)
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


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("status_500", Outcome.SERVER_ERROR),
        ("status_429", Outcome.RATE_LIMITED),
        ("cut", Outcome.CONNECTION_ERROR),
        ("hang", Outcome.TIMEOUT),
        ("malformed_json", Outcome.MALFORMED),
        ("missing_usage", Outcome.MALFORMED),
        ("empty_choices", Outcome.MALFORMED),
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
    with simulated_pool(embedded_pool, WorldConfig(), time_scale=0.0) as url:
        pool = replace(embedded_pool, api_base=url, retry_backoff_s=0.01)
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
