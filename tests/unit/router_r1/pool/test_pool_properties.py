"""Whatever an endpoint sends, a call ends in a typed outcome with a right bill, raises nothing and
leaks nothing."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from router_r1.pool.client import PoolClient
from router_r1.pool.outcome import MAX_CHARACTERS_PER_TOKEN, CallResult, Outcome
from router_r1.pool.reply import read_reply
from router_r1.pool.request_options import RequestOptions
from tests.pool_stub import Answer, StubEndpoint, ok, pool_at, stub

KEY = "sk-planted-key-0123"
MAX_TOKENS = 8

WORDS = st.sampled_from(
    [KEY, f"Bearer {KEY}", "<think>", "</think>", "Herbert", "rate limit", "429", "data: [DONE]"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(400, 599)
    | st.floats()
    | st.text(max_size=20)
    | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["text", "type", "code", "message", "error", "content", "retry_after"])
            | st.text(max_size=6),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
REPLY = {
    "id": "x",
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Herbert",
                "reasoning_content": None,
                "refusal": None,
            },
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
    "error": None,
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value within ``value``, itself included."""
    yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from places(item, (*path, key))


def put(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """``body`` with ``value`` at ``path``."""
    if not path:
        return value
    changed = copy.deepcopy(body)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


BODIES = st.builds(put, st.just(REPLY), st.sampled_from(list(places(REPLY))), VALUES)
EVENTS = st.lists(
    BODIES
    | st.builds(
        put,
        st.just({"choices": [{"index": 0, "delta": {"content": "Her"}}], "usage": None}),
        st.sampled_from([(), ("choices",), ("choices", 0), ("choices", 0, "delta"), ("usage",)]),
        VALUES,
    ),
    max_size=4,
)


def as_events(events: list[Any]) -> bytes:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()


RAW = (
    BODIES.map(lambda body: json.dumps(body).encode())
    | EVENTS.map(as_events)
    | st.builds(lambda body, n: json.dumps(body).encode()[:n], BODIES, st.integers(0, 200))
    | BODIES.map(lambda body: json.dumps(body).encode("utf-16"))
    | st.binary(max_size=64).map(lambda tail: b"\x1f\x8b" + tail)
    | st.binary(max_size=64)
    | st.integers(1, 3000).map(lambda depth: b"[" * depth + b"]" * depth)
)
CONTENT_TYPES = st.sampled_from(
    [
        *("application/json", "text/html", "text/event-stream", "", "nonsense", "a/b; charset"),
        *("text/plain; charset=latin-1", "application/json; charset=hex", "x; charset=utf-16"),
        *('a/b; charset="', "text/plain; charset=idna", "application/json; charset=nöt"),
    ]
)
ENCODINGS = st.sampled_from([None, "gzip", "br", "deflate", "identity", "gzip, gzip", "no-such"])
RETRY_AFTER = st.sampled_from([None, "0", "-1", "nan", "inf", "1e309", "soon", "Mon, 99", "9" * 40])
STATUS = st.sampled_from(
    [200, 200, 200, 201, 204, 301, 308, 400, 401, 404, 413, 422, 429, 500, 599]
)


@contextmanager
def at_a_stub(**changes: Any) -> Iterator[tuple[StubEndpoint, Callable[[], CallResult]]]:
    """A stub, and a function that asks it once. Each call has a client of its own, so that none
    keeps to the pause that another was asked for."""
    with stub(lambda _: ok()) as endpoint, asyncio.Runner() as runner:
        pool = pool_at(endpoint.url, max_tokens=MAX_TOKENS, max_retries=0, **changes)

        async def ask() -> CallResult:
            client = PoolClient(pool, api_key=KEY)
            try:
                return await client.ask("A", "Who wrote Dune?")
            finally:
                await client.close()

        yield endpoint, lambda: runner.run(ask())


def check(result: CallResult) -> None:
    """What holds of every call."""
    assert result.outcome in Outcome
    assert (result.text is None) == (result.outcome is not Outcome.OK)
    for tokens in (result.prompt_tokens, result.completion_tokens):
        assert isinstance(tokens, int)
        assert tokens >= 0
    assert math.isfinite(result.cost)
    assert result.cost == result.completion_tokens * 2.0
    assert result.dollars == pytest.approx((result.cost + result.prompt_tokens) / 1e6)
    said = f"{result.text}{result.detail}"
    assert KEY not in said
    said.encode()
    assert len(result.text or "") <= MAX_CHARACTERS_PER_TOKEN * MAX_TOKENS
    assert len(result.detail.splitlines()) <= 1


@pytest.mark.parametrize("streamed", [False, True])
def test_any_response_ends_in_a_typed_outcome(
    streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with at_a_stub(request=RequestOptions(stream=streamed)) as (endpoint, ask):

        @settings(
            max_examples=250,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(raw=RAW, status=STATUS, kind=CONTENT_TYPES, encoding=ENCODINGS, retry=RETRY_AFTER)
        @example(b"", 200, "application/json", None, None)
        @example(b"[" * 100_000, 200, "application/json", None, None)
        @example(b"[" * 100_000, 400, "application/json", None, None)
        @example(b"data: [DONE]\n\n", 200, "text/event-stream", None, None)
        def holds(
            raw: bytes, status: int, kind: str, encoding: str | None, retry: str | None
        ) -> None:
            headers = {"Content-Encoding": encoding, "Retry-After": retry}
            sent = {name: value for name, value in headers.items() if value is not None}
            endpoint.chat = lambda _: Answer(None, status, sent, raw, kind)
            check(ask())

        holds()
    assert KEY not in caplog.text


@settings(max_examples=400, deadline=None)
@given(path=st.sampled_from(list(places(REPLY))), value=VALUES)
def test_the_bill_is_the_stated_one_unless_it_cannot_be(path: tuple[Any, ...], value: Any) -> None:
    """A value anywhere but in the usage leaves the bill; one in the usage is a count or is not."""
    content = json.dumps(put(REPLY, path, value)).encode()
    reply = read_reply(content, None, "prompt", MAX_TOKENS, lambda text: 1000 + len(text))
    if not path or (path == ("error",) and not isinstance(value, dict | list | str)):
        return
    stated = (reply.prompt_tokens, reply.completion_tokens)
    if path[0] != "usage":
        assert (stated, reply.usage_estimated) == ((9, 2), False)
    elif path == ("usage",):
        assert all(count >= 0 for count in stated)
    else:
        other = "completion_tokens" if path[1] == "prompt_tokens" else "prompt_tokens"
        counts = {"prompt_tokens": stated[0], "completion_tokens": stated[1]}
        if path[1] == "prompt_tokens":
            assert counts[other] >= 2
        elif path[1] == "completion_tokens":
            assert counts[other] == 9
            assert reply.usage_estimated or counts[path[1]] == max(value, 2)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<thinking>", "[/THINK]", "word ", "\n"]),
        max_size=12,
    )
)
def test_what_is_between_tags_never_passes(pieces: list[str]) -> None:
    """Of marked words, those between an opening and the next closing tag are gone."""
    inside, marked, hidden = False, [], []
    for number, piece in enumerate(pieces):
        if piece.startswith(("<", "[")):
            inside = not piece.startswith(("</", "[/"))
            marked.append(piece)
        else:
            word = f"w{number}."
            marked.append(word)
            if inside:
                hidden.append(word)
    body = {"choices": [{"message": {"content": "".join(marked)}}]}
    reply = read_reply(json.dumps(body).encode(), None, "", MAX_TOKENS, len)
    assert not any(word in reply.text for word in hidden)
    assert "THINK" not in reply.text.upper()
