"""``POST /route`` over HTTP, on the engine of the serving tests."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace
from typing import Any

import pytest

from router_r1.inference.router import Router
from router_r1.pool.config import LLMConfig, PoolConfig
from tests.integration.faults import fault
from tests.integration.serving import KEY, idle_state, served, until

pytestmark = pytest.mark.engine


def post_route(url: str, body: Any, key: str | None = KEY) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {key}"} if key else {}
    place = f"{url.removesuffix('/v1')}/route"
    request = urllib.request.Request(place, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_route_is_the_first_call_which_is_not_made(
    router: Router, questions: list[str], served_pool: PoolConfig
) -> None:
    """Its pool fails every call, and nobody notices."""
    with served(router) as (server, url), fault(served_pool, "status_500"):
        for question in questions[:4]:
            whole = router.run(router.answer(router.request(question))).record
            status, told = post_route(url, {"query": question})
            assert status == 200
            assert set(told) == {"selected_model", "thinking", "full_response"}
            assert told["selected_model"] == whole.calls[0].result.llm
            assert told["full_response"] == whole.opened + whole.turns[0].text
            assert told["thinking"]
            assert f"{told['thinking']}</think>" in told["full_response"]
        metrics = server.metrics.render()
        assert 'router_r1_requests_total{status="200"} 4' in metrics
        assert "router_r1_pool_calls_total{" not in metrics
    assert until(lambda: router.run(idle_state(router))[0] == 0)


def test_a_route_keeps_the_rules_of_the_api(router: Router, questions: list[str]) -> None:
    with served(router) as (_, url):
        refusals = [
            post_route(url, {"query": questions[0]}, key=None),
            post_route(url, {"query": questions[0]}, key="sk-wrong"),
            post_route(url, {"question": questions[0]}),
            post_route(url, {"query": "Who is " + "very " * 300 + "old?"}),
        ]
        _, told = post_route(url, {"query": questions[0], "model": "auto"})
    assert [
        (status, told["error"]["code"], told["error"]["param"]) for status, told in refusals
    ] == [
        (401, "invalid_api_key", None),
        (401, "invalid_api_key", None),
        (400, "invalid_request", "query"),
        (400, "context_length_exceeded", "query"),
    ]
    assert told["warnings"] == ["'model' is not known here and is ignored"]


def test_a_route_without_a_call_is_an_error_and_a_tools_call_is_made(
    router: Router, questions: list[str]
) -> None:
    """Were all LLMs tools, the router would never call an LLM."""
    tools = [
        LLMConfig(llm.name, kind="calculator", completion_price=1.0)
        for llm in router.settings.pool.llms
    ]
    settings = replace(router.settings, pool=replace(router.settings.pool, llms=tools))
    tool_router = Router(settings, router._manager, router._chat._tokenizer)
    with served(tool_router) as (server, url):
        status, told = post_route(url, {"query": questions[0]})
        assert (status, told["error"]["code"]) == (422, "no_llm_selected")
        assert 'router_r1_pool_calls_total{llm="' in server.metrics.render()
        with urllib.request.urlopen(f"{url.removesuffix('/v1')}/health", timeout=5) as health:
            assert (health.status, json.loads(health.read())["status"]) == (200, "ok")
