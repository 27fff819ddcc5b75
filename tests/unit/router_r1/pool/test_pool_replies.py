"""Replies of every shape that providers send, over real HTTP: outcome, text and bill."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from typing import Any

import pytest

from router_r1.pool.client import PoolClient
from router_r1.pool.config import PoolConfig
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.recording import Recording, RecordingConfig, Request
from router_r1.pool.refusal import pause_of
from router_r1.pool.request_options import RequestOptions
from tests.pool_stub import (
    Answer,
    StubEndpoint,
    completion,
    error,
    in_turn,
    ok,
    pool_at,
    stream,
    stub,
)

THOUGHT = "<think>" + "I wonder. " * 5000 + "</think>"


def ask(pool: PoolConfig, calls: int = 1) -> tuple[list[CallResult], PoolClient]:
    async def run() -> tuple[list[CallResult], PoolClient]:
        client = PoolClient(pool)
        try:
            asked = (client.ask("A", f"Who wrote Dune? {i}") for i in range(calls))
            return list(await asyncio.gather(*asked)), client
        finally:
            await client.close()

    return asyncio.run(run())


def answered(*answers: Answer, **changes: Any) -> tuple[CallResult, StubEndpoint]:
    """One call, of an endpoint that gives these answers in turn."""
    with stub(in_turn(*answers)) as endpoint:
        results, _ = ask(pool_at(endpoint.url, **changes))
    return results[0], endpoint


@pytest.mark.parametrize(
    "first",
    [
        Answer({"error": {"code": 429, "message": "slow down"}}),
        Answer({"error": {"code": "502", "message": "upstream"}}),
        Answer({"error": {"code": "rate_limit_exceeded"}, "choices": []}),
        Answer({"error": {"status": "UNAVAILABLE"}, "choices": []}),
        Answer({"error": "Too many requests"}),
        Answer({"error": "something broke"}),
        Answer({"object": "error", "message": "x", "code": 503}),
        Answer({"code": 429, "msg": "busy"}),
        Answer({"choices": [{"error": {"code": 502, "message": "x"}, "finish_reason": "error"}]}),
        Answer({"error": {"code": 503}}),
        Answer([{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}]),
        Answer([7, {"choices": []}, {"error": "Too many requests"}]),
        stream([{"error": {"code": 503, "message": "overloaded"}}]),
        stream({"error": {"code": 502, "message": "x"}, "choices": []}),
        error(425, "too early"),
    ],
    ids=lambda answer: str(answer.body or answer.raw)[:48],
)
def test_an_error_in_a_200_is_retried_as_its_status_is(first: Answer) -> None:
    result, endpoint = answered(first, ok())
    assert (result.outcome, result.text) == (Outcome.OK, "Herbert")
    assert len(endpoint.sent) == 2


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"error": {"code": 401, "message": "bad key"}}, Outcome.REFUSED),
        ({"error": {"code": "invalid_api_key"}}, Outcome.REFUSED),
        ({"error": {"type": "authentication_error", "message": "no"}}, Outcome.REFUSED),
        ({"error": {"code": "insufficient_quota", "message": "pay"}}, Outcome.REFUSED),
        ({"error": {"code": "model_not_found"}}, Outcome.REFUSED),
        ({"error": {"code": 402}}, Outcome.REFUSED),
        ({"error": {"code": "context_length_exceeded", "param": "max_tokens"}}, "invalid_query"),
        ({"error": {"type": "invalid_request_error", "message": "hm"}}, Outcome.INVALID_QUERY),
        ({"error": {"code": 400, "message": "unknown field seed"}}, Outcome.REFUSED),
    ],
)
def test_an_error_in_a_200_that_no_retry_mends_ends_the_call(body: Any, outcome: str) -> None:
    result, endpoint = answered(Answer(body), ok())
    assert (result.outcome, result.dollars) == (outcome, 0.0)
    assert len(endpoint.sent) == 1


def test_a_429_for_want_of_money_is_refused() -> None:
    quota = error(429, "You exceeded your current quota", code="insufficient_quota")
    assert answered(quota, ok())[0].outcome is Outcome.REFUSED


def test_a_429_that_says_when_to_come_back_is_a_rate_limit_whatever_its_words() -> None:
    """Gemini's limit of requests a minute."""
    words = "You exceeded your current quota, please check your plan and billing details."
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.2s"}]
    busy = Answer({"error": {"code": 429, "message": words, "details": details}}, 429)
    result, endpoint = answered(busy, ok())
    assert (result.outcome, len(endpoint.sent)) == (Outcome.OK, 2)


def test_an_error_beside_a_bill_is_billed_and_not_bought_again() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 7}
    result, endpoint = answered(Answer({"error": {"code": 502}, "usage": usage}), ok())
    assert (result.outcome, result.completion_tokens, result.cost) == ("server_error", 7, 14.0)
    assert len(endpoint.sent) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": "Let me see"},
        {"content": "", "reasoning_content": "Let me see"},
        {"content": " \n", "reasoning": "Let me see"},
        {"content": "<think>Let me see"},
        {"content": "<think>Let me see</think>\n"},
        {"content": [{"type": "thinking", "thinking": "Let me see"}]},
        {"content": []},
        {"reasoning_content": "Let me see"},
    ],
)
def test_an_empty_reply_is_billed_told_and_not_asked_again(
    message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with stub(in_turn(completion(message, "length", 50, 512), ok())) as endpoint:
        (result,), client = ask(pool_at(endpoint.url, budget_usd=1.0))
    assert (result.outcome, result.text) == (Outcome.EMPTY, None)
    assert (result.prompt_tokens, result.completion_tokens) == (50, 512)
    assert (result.cost, result.dollars) == (1024.0, pytest.approx(1074e-6))
    assert client.budget.spent_usd == client.ledger.spent_usd == result.dollars
    assert len(endpoint.sent) == 1
    assert "max_tokens=512: raise it" in caplog.text
    assert not result.outcome.infrastructure


@pytest.mark.parametrize(
    ("finish_reason", "advice", "raises_max_tokens"),
    [
        ("length", "max_tokens=512: raise it", True),
        ("MAX_TOKENS", "max_tokens=512: raise it", True),
        (None, "max_tokens=512: raise it", True),
        (["length"], "max_tokens=512: raise it", True),
        ("content_filter", "loosen the filter", False),
        ("SAFETY", "loosen the filter", False),
        ("tool_calls", "offers no tools", False),
        ("function_call", "offers no tools", False),
        ("stop", "it was not cut", False),
    ],
)
def test_an_empty_reply_advises_what_its_finish_reason_calls_for(
    finish_reason: Any, advice: str, raises_max_tokens: bool, caplog: pytest.LogCaptureFixture
) -> None:
    result, _ = answered(completion({"content": None}, finish_reason, 9, 2))
    assert result.outcome is Outcome.EMPTY
    told = " ".join(caplog.text.split())
    assert advice in told
    assert advice in result.detail
    assert ("raise it" in told) is raises_max_tokens


def test_each_kind_of_empty_reply_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    filtered, cut = (completion({}, reason, 9, 2) for reason in ("content_filter", "length"))
    with stub(in_turn(filtered, cut, filtered, cut)) as endpoint:
        ask(pool_at(endpoint.url, concurrency=1), calls=4)
    assert [("filter" in record.message) for record in caplog.records] == [True, False]


def test_an_empty_reply_that_does_not_say_its_bill_is_estimated_with_its_reasoning() -> None:
    message = {"content": "", "reasoning_content": "x" * 400}
    result, _ = answered(Answer({"choices": [{"message": message}]}))
    assert (result.outcome, result.completion_tokens, result.usage_estimated) == (
        Outcome.EMPTY,
        101,
        True,
    )


def test_a_body_without_a_choice_costs_what_it_says_it_billed() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 7}
    result, _ = answered(Answer({"choices": [], "usage": usage}))
    assert (result.outcome, result.text) == (Outcome.MALFORMED, None)
    assert (result.completion_tokens, result.cost) == (7, 14.0)


@pytest.mark.parametrize(
    "content",
    [
        THOUGHT + "Herbert",
        THOUGHT.removeprefix("<think>") + "Herbert",
        "<THINK>a <think> b</THINK>Herbert",
        "<thinking>a</thinking>\n\nHerbert",
        "[THINK]a[/THINK]Herbert",
        "<think>a</think>Her<thought>b</thought>bert",
        "Herbert<think>was it",
        [{"type": "text", "text": "Herbert"}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}, {"text": "Herbert"}],
        [{"type": "reasoning", "text": "a"}, {"type": "text", "text": "<think>a</think>Herbert"}],
        ["Her", {"type": "output_text", "text": "bert"}, 7, None],
    ],
    ids=lambda content: str(content)[:40],
)
def test_reasoning_never_reaches_the_policy(content: Any) -> None:
    result, _ = answered(ok(content, reasoning_content="secret thoughts", reasoning="more"))
    assert (result.outcome, result.text, result.completion_tokens) == ("ok", "Herbert", 2)


def test_text_without_reasoning_is_left_as_it_is() -> None:
    text = "  Think <b>twice</b>, [think] of </p>, 1 < 2 > 0\n"
    assert answered(ok(text))[0].text == text


def test_a_refusal_is_what_the_llm_says() -> None:
    assert answered(ok(None, refusal="I cannot help."))[0].text == "I cannot help."


def test_tokens_that_only_the_total_counts_are_billed() -> None:
    """Gemini's and xAI's way of counting reasoning."""
    body = {**ok().body, "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 99}}
    assert answered(Answer(body))[0].completion_tokens == 90


@pytest.mark.parametrize(
    "silly", [-1, True, "2", None, 1.5, float("nan"), float("inf"), 10**18, [], {}]
)
def test_a_silly_usage_is_estimated(silly: Any) -> None:
    body = {**ok().body, "usage": {"prompt_tokens": 9, "completion_tokens": silly}}
    result, _ = answered(Answer(body))
    assert (result.outcome, result.usage_estimated) == (Outcome.OK, True)
    assert (result.prompt_tokens, result.completion_tokens) == (9, 2)


DELTAS = [
    {"choices": [], "prompt_filter_results": []},
    {"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}}]},
    {"choices": [{"index": 0, "delta": {"content": "<thi"}}]},
    {"choices": [{"index": 1, "delta": {"content": "other"}}]},
    {"choices": [{"index": 0, "delta": {"content": "nk>a</think>Her"}}]},
    {"choices": [{"index": 0, "delta": {"content": "bert"}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 40}},
]


@pytest.mark.parametrize(
    "answer",
    [
        stream(*DELTAS),
        stream(*DELTAS, end=""),
        stream(*DELTAS, comment=": OPENROUTER PROCESSING\n\n"),
        Answer(raw=stream(*DELTAS).raw, content_type="application/json"),
        Answer(raw=(stream(*DELTAS).raw or b"").replace(b"\n", b"\r\n")),
        Answer(raw=(stream(*DELTAS).raw or b"").replace(b"data: ", b"data:")),
    ],
)
def test_a_stream_is_read_with_its_bill(answer: Answer) -> None:
    result, endpoint = answered(answer, request=RequestOptions(stream=True))
    assert (result.outcome, result.text) == (Outcome.OK, "Herbert")
    assert (result.completion_tokens, result.usage_estimated) == (40, False)
    assert endpoint.sent[0].body["stream"] is True
    assert endpoint.sent[0].body["stream_options"] == {"include_usage": True}


def test_a_stream_of_parts_is_read() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    events = [
        {"choices": [{"delta": {"content": [thinking]}}]},
        {"choices": [{"delta": {"content": [{"type": "text", "text": "Her"}]}}]},
        {"choices": [{"delta": {"content": "bert"}}]},
    ]
    assert answered(stream(*events))[0].text == "Herbert"


def test_a_stream_that_breaks_off_is_no_reply() -> None:
    """As when a proxy closes the connection in good order: no end marker, reason or bill."""
    broken = stream(*DELTAS[:-2], end="")
    result, endpoint = answered(broken, ok())
    assert (result.outcome, result.text, len(endpoint.sent)) == (Outcome.OK, "Herbert", 2)
    result, _ = answered(broken, max_retries=0)
    assert (result.outcome, result.text, result.dollars) == (Outcome.SERVER_ERROR, None, 0.0)
    assert "broke off" in result.detail


def test_a_stream_that_only_thinks_is_empty() -> None:
    result, _ = answered(stream(DELTAS[1], DELTAS[-1]))
    assert (result.outcome, result.completion_tokens) == (Outcome.EMPTY, 40)


def test_an_error_within_a_stream_is_an_error_with_its_bill() -> None:
    broken = stream(*DELTAS[:4], DELTAS[-1], {"error": {"code": 502, "message": "lost"}})
    result, endpoint = answered(broken, ok())
    assert (result.outcome, result.completion_tokens) == (Outcome.SERVER_ERROR, 40)
    assert "lost" in result.detail
    assert len(endpoint.sent) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(raw=gzip.compress(json.dumps(ok().body).encode())),
        Answer(ok().body, headers={"Content-Encoding": "gzip"}),
        Answer(ok().body, headers={"Content-Encoding": "br"}),
        Answer(raw=json.dumps(ok().body).encode("utf-16")),
        Answer(raw=b"\xef\xbb\xbf" + json.dumps(ok().body).encode()),
        Answer(ok().body, content_type="text/html; charset=no-such"),
        Answer(ok().body, content_type=";;;"),
    ],
)
def test_encodings_that_lie_do_not_matter(answer: Answer) -> None:
    result, _ = answered(answer)
    assert (result.outcome, result.text, result.cost) == (Outcome.OK, "Herbert", 4.0)


def test_a_charset_counts_where_the_body_is_not_utf_8() -> None:
    raw = json.dumps(ok("Bahnhofstraße").body, ensure_ascii=False).encode("latin-1")
    latin = Answer(raw=raw, content_type="application/json; charset=latin-1")
    assert answered(latin)[0].text == "Bahnhofstraße"


@pytest.mark.parametrize(
    ("headers", "error", "seconds"),
    [
        ({"retry-after": "30"}, None, 30.0),
        ({"retry-after": "soon"}, {"retry_after": 5}, 0.0),
        ({"retry-after-ms": "1500"}, None, 1.5),
        ({}, {"metadata": {"headers": {"Retry-After": "7"}}}, 7.0),
        ({}, {"retry_after_ms": 250}, 0.25),
        ({}, {"details": [{"@type": "x"}, {"retryDelay": "3.5s"}]}, 3.5),
        ({}, {"retry_after": "nan"}, 0.0),
        ({}, {"retry_after": -4}, 0.0),
        ({}, {"retry_after": float("inf")}, 0.0),
        ({}, "wait 20 seconds", 0.0),
    ],
)
def test_a_pause_is_found_in_headers_or_body(
    headers: dict[str, str], error: Any, seconds: float
) -> None:
    assert pause_of(headers, error) == seconds


def test_a_pause_beyond_the_calls_limit_is_waited_for_by_all() -> None:
    """Eight calls of at most 1 s each; the endpoint wants 1.5 s of rest."""
    busy = Answer({"error": {"code": 429, "retry_after": 1.5}})
    start = time.monotonic()
    with stub(in_turn(*[busy] * 8, ok())) as endpoint:
        pool = pool_at(endpoint.url, request_timeout_s=1.0, queue_timeout_s=30.0)
        results, _ = ask(pool, calls=8)
    assert {r.outcome for r in results} == {Outcome.OK}
    assert len(endpoint.sent) == 16
    assert time.monotonic() - start >= 1.5


def test_a_pause_that_the_endpoint_asks_for_uses_up_no_retry() -> None:
    pause = Answer({}, 429, {"Retry-After": "0.02"})
    result, endpoint = answered(*[pause] * 4, ok(), max_retries=0)
    assert (result.outcome, len(endpoint.sent)) == (Outcome.OK, 5)
    resting = Answer({}, 503, {"Retry-After": "0.02"})
    broken = Answer({}, 503)
    result, endpoint = answered(
        *(pause, broken, resting, pause, broken, ok()), max_retries=1, breaker_failures=100
    )
    assert (result.outcome, len(endpoint.sent)) == (Outcome.SERVER_ERROR, 5)


def test_an_endpoint_that_asks_for_pauses_without_end_is_left_once_the_time_is_up() -> None:
    """Next to no pause is asked for: the backoff bounds how often the call is sent."""
    busy = Answer({}, 429, {"Retry-After": "0.001"})
    result, endpoint = answered(busy, queue_timeout_s=0.5, retry_backoff_s=0.1)
    assert result.outcome is Outcome.RATE_LIMITED
    assert 4 <= len(endpoint.sent) <= 11


def test_those_behind_wait_as_well() -> None:
    busy = Answer({}, 429, {"Retry-After": "1.5"})
    with stub(in_turn(busy, ok())) as endpoint:
        pool = pool_at(endpoint.url, request_timeout_s=1.0, concurrency=1, max_retries=1)
        results, _ = ask(pool, calls=6)
    assert {r.outcome for r in results} == {Outcome.OK}
    assert len(endpoint.sent) == 7


def test_a_redirect_is_not_followed_and_told() -> None:
    with stub(in_turn(ok())) as elsewhere:
        there = f"{elsewhere.url}/chat/completions"
        moved = Answer({}, 308, {"Location": there})
        result, _ = answered(moved, ok())
    assert result.outcome is Outcome.REFUSED
    assert there in result.detail
    assert not elsewhere.sent


def test_an_old_recording_is_replayed_without_its_reasoning(tmp_path: Any) -> None:
    path = str(tmp_path / "calls.sqlite")
    pool = pool_at("http://127.0.0.1:9/v1")
    content = f"{pool.instruction}\n\nQuestion for you: Who wrote Dune? 0"
    sampling = {"temperature": 0.0, "top_p": 1.0, "seed": 42, "max_tokens": 512}
    request = Request("a", [{"role": "user", "content": content}], sampling)
    for kept, expected in (("<think>hm</think>Herbert", "Herbert"), ("<think>hm", None)):
        recording = Recording(RecordingConfig("record", path))
        recording.keep(request, CallResult("A", Outcome.OK, kept, 9, 40))
        recording.close()
        pool.recording = RecordingConfig("replay", path)
        (result,), _ = ask(pool)
        assert (result.text, result.completion_tokens, result.cost) == (expected, 40, 80.0)
        assert result.outcome is (Outcome.OK if expected else Outcome.EMPTY)


def test_an_empty_reply_is_recorded_and_not_bought_again(tmp_path: Any) -> None:
    path = str(tmp_path / "calls.sqlite")
    with stub(in_turn(completion({"content": "<think>hm"}, "length", 50, 512), ok())) as endpoint:
        pool = pool_at(endpoint.url, recording=RecordingConfig("replay_or_call", path))
        first, again = (ask(pool)[0][0] for _ in range(2))
    assert len(endpoint.sent) == 1
    assert (first.outcome, first.replayed) == (Outcome.EMPTY, False)
    assert (again.outcome, again.replayed, again.cost) == (Outcome.EMPTY, True, first.cost)


def test_what_the_policy_did_is_told_from_what_the_infrastructure_did() -> None:
    own = {"ok", "unknown_llm", "invalid_query", "empty", "budget", "question_limit"}
    assert {outcome.value for outcome in Outcome if not outcome.infrastructure} == own


def test_the_ledger_gives_each_llms_share_of_failures() -> None:
    with stub(in_turn(ok(), error(401, "revoked"))) as endpoint:
        _, client = ask(pool_at(endpoint.url), calls=4)
    name = "pool/infrastructure_failures/A"
    assert client.ledger.outcomes_of["A"] == {Outcome.OK: 1, Outcome.REFUSED: 3}
    assert client.ledger.describe_failures() == "A 3 of 4 calls (refused)"
    assert client.ledger.collect_metrics()[name] == 0.75
    assert client.ledger.collect_metrics()[name] == 0.0
