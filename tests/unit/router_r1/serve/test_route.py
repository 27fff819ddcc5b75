"""Which LLM ``/route`` takes from what a router writes; no server."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from router_r1.inference.router import Router
from router_r1.llm_agent.observer import TrajectoryObserver
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.serve.errors import APIError
from router_r1.serve.route import RouteRequest, parse_route_request, select_llm
from router_r1.tags import DEFAULT_TAGS
from verl.interfaces import RolloutRequest

POOL = PoolConfig(
    name="mine",
    llms=[
        LLMConfig("Draco", "d", completion_price=1.0, aliases=["the-dragon"]),
        LLMConfig("Sum", kind="calculator", completion_price=1.0),
    ],
)


def test_a_query_is_read_and_other_fields_are_told() -> None:
    assert parse_route_request(b'{"query": " Who? "}') == RouteRequest(" Who? ")
    weighed = parse_route_request(b'{"query": "Who?", "cost_coe": 0.6}')
    assert weighed == RouteRequest("Who?", 0.6)
    asked = parse_route_request(b'{"query": "Who?", "model": "x", "user": null}')
    assert asked.warnings == ("'model' is not known here and is ignored",)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": None}, "query"),
        ({"query": 3}, "query"),
        ({"query": " \n"}, "query"),
        ({"query": "Who \ud83d?"}, "query"),
        ([], None),
    ],
)
def test_what_is_no_query_is_refused_by_name(body: object, param: str | None) -> None:
    with pytest.raises(APIError) as caught:
        parse_route_request(json.dumps(body).encode())
    assert (caught.value.status, caught.value.param) == (400, param)


class Writing:
    """Plays a router that asks a tool, nobody and an LLM; what is read is no thought."""

    settings = SimpleNamespace(pool=POOL, tags=DEFAULT_TAGS)

    def request(self, question: str, _: float | None) -> RolloutRequest:
        return RolloutRequest(question, [])

    async def answer(self, _: RolloutRequest, observer: TrajectoryObserver) -> None:
        observer.on_text("<think> first")
        observer.on_text("</think><search> Sum: 1 + 1</search>")
        observer.on_call("Sum", "1 + 1")
        observer.on_result(CallResult("Sum", Outcome.OK, "2"))
        observer.on_observation("\n\n<information>(think)2</information>\n\n")
        observer.on_text("<think></think><search> Nobody: x</search>")
        observer.on_call("Nobody", "x")
        observer.on_result(CallResult("Nobody", Outcome.UNKNOWN_LLM))
        observer.on_observation("\n\n<information>None</information>\n\n")
        observer.on_text("<think> then\nthis</think><search> THE-DRAGON: y</search>")
        observer.on_call("THE-DRAGON", "y")


def test_the_first_call_of_an_llm_ends_the_trajectory() -> None:
    """After one of a tool and one of nobody."""
    results: list[CallResult] = []

    def told(*warnings: str) -> dict[str, Any]:
        asked = RouteRequest("Who?", warnings=warnings)
        return asyncio.run(select_llm(cast(Router, Writing()), asked, results.append))

    assert told("w") == {
        "selected_model": "Draco",
        "thinking": "first\nthen\nthis",
        "full_response": (
            "<think> first</think><search> Sum: 1 + 1</search>"
            "\n\n<information>(think)2</information>\n\n"
            "<think></think><search> Nobody: x</search>\n\n<information>None</information>\n\n"
            "<think> then\nthis</think><search> THE-DRAGON: y</search>"
        ),
        "warnings": ["w"],
    }
    assert [result.llm for result in results] == ["Sum", "Nobody"]
    assert set(told()) == {"selected_model", "thinking", "full_response"}
