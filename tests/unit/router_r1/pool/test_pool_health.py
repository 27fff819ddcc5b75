"""A run that cannot reach its LLMs is told to stop, and why."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from router_r1.pool.client import PoolClient
from router_r1.pool.config import PoolConfig
from router_r1.pool.health import HealthConfig, PoolHealth
from router_r1.pool.outcome import CallResult, Outcome
from verl.config.validation import ConfigError

POLICYS_OWN = (
    Outcome.UNKNOWN_LLM,
    Outcome.INVALID_QUERY,
    Outcome.BUDGET,
    Outcome.QUESTION_LIMIT,
)


def health(**limits: float) -> PoolHealth:
    return PoolHealth(HealthConfig(**limits), ["Atlas", "Borealis"])  # type: ignore[arg-type]


def rollout(pool: PoolHealth, *outcomes: Outcome, llm: str = "Atlas") -> str | None:
    for outcome in outcomes:
        pool.book(CallResult(llm, outcome))
    return pool.end_rollout()


def test_a_share_over_the_limit_stops_the_run_after_so_many_rollouts() -> None:
    pool = health(max_failed_share=0.5, failed_rollouts=2)
    bad = (Outcome.TIMEOUT, Outcome.TIMEOUT, Outcome.SERVER_ERROR, Outcome.OK)
    assert rollout(pool, *bad) is None
    pool.book(CallResult("Borealis", Outcome.OK))
    reason = rollout(pool, *bad)
    assert reason is not None
    assert "\n" not in reason
    for words in (
        "60% of the calls failed",
        "Atlas 3 of 4 (timeout)",
        "max_failed_share=0.5",
        "failed_rollouts=2",
        "router_r1.pool check",
    ):
        assert words in reason
    assert re.search(r"since \d\d:\d\d:\d\d", reason)
    assert "Borealis" not in reason
    assert pool.collect_metrics() == {"pool/failed_share": 0.6}


def test_one_good_rollout_in_between_starts_the_count_anew() -> None:
    pool = health(failed_rollouts=2)
    good = (Outcome.OK, Outcome.OK, Outcome.TIMEOUT)
    assert rollout(pool, Outcome.TIMEOUT) is None
    assert rollout(pool, *good) is None
    assert rollout(pool, Outcome.TIMEOUT) is None
    assert rollout(pool) is None, "no call says nothing"
    assert rollout(pool, Outcome.TIMEOUT) is not None


def test_a_share_of_exactly_the_limit_is_within_it() -> None:
    assert rollout(health(failed_rollouts=1), Outcome.OK, Outcome.TIMEOUT) is None
    everything = health(max_failed_share=1.0, failed_rollouts=1)
    assert rollout(everything, Outcome.TIMEOUT) is None


def test_an_llm_that_refuses_every_call_stops_the_run_however_few_they_are() -> None:
    pool = health(refusals=3, failed_rollouts=99)
    assert rollout(pool, Outcome.OK, Outcome.REFUSED, Outcome.OK, Outcome.REFUSED) is None
    assert rollout(pool, *[Outcome.OK] * 90, llm="Borealis") is None
    assert rollout(pool, Outcome.REFUSED) is None
    reason = rollout(pool, Outcome.REFUSED)
    assert reason is not None
    for words in ("Atlas refused every call since", "3 in a row", "key", "pool.health.refusals=3"):
        assert words in reason
    assert "Borealis" not in reason


@pytest.mark.parametrize("outcome", POLICYS_OWN)
def test_what_the_policy_did_wrong_counts_for_nothing(outcome: Outcome) -> None:
    assert not outcome.infrastructure
    pool = health(failed_rollouts=1, refusals=1)
    assert rollout(pool, *[outcome] * 5) is None
    pool.book(CallResult("Atlas", Outcome.REFUSED, replayed=True))
    pool.book(CallResult("a name nobody has", Outcome.UNKNOWN_LLM))
    assert pool.end_rollout() is None
    assert pool.collect_metrics() == {"pool/failed_share": 0.0}


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.TIMEOUT,
        Outcome.RATE_LIMITED,
        Outcome.SERVER_ERROR,
        Outcome.CONNECTION_ERROR,
        Outcome.REFUSED,
        Outcome.MALFORMED,
        Outcome.UNAVAILABLE,
        Outcome.NOT_RECORDED,
    ],
)
def test_what_the_pool_did_wrong_counts(outcome: Outcome) -> None:
    assert outcome.infrastructure
    assert rollout(health(failed_rollouts=1), outcome) is not None


def test_an_llm_that_calls_every_request_invalid_has_refused_it() -> None:
    """An endpoint that does not take our options says 400 to all; a policy now and then."""
    sent = CallResult("Atlas", Outcome.INVALID_QUERY, latency_s=0.1)
    blank = CallResult("Atlas", Outcome.INVALID_QUERY)
    for calls, stops in (([sent] * 3, True), ([blank] * 9, False)):
        pool = health(refusals=3)
        for call in calls:
            pool.book(call)
        assert (pool.end_rollout() is not None) == stops
    answering = health(refusals=3)
    answering.book(CallResult("Atlas", Outcome.OK))
    for _ in range(9):
        answering.book(sent)
    assert answering.end_rollout() is None


class _Revoked(BaseHTTPRequestHandler):
    """Answers two calls, then the key is revoked."""

    answered = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).answered += 1
        status, body = 401, {"error": {"message": "key revoked"}}
        if self.answered <= 2:
            status = 200
            message = {"role": "assistant", "content": "x"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1}
            body = {"choices": [{"message": message}], "usage": usage}  # type: ignore[dict-item]
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


def test_a_key_revoked_on_the_way_stops_the_run(embedded_pool: PoolConfig) -> None:
    """Over HTTP: the client's own calls lead to the reason that the trainer is given."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Revoked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pool = replace(embedded_pool, api_base=f"http://127.0.0.1:{server.server_port}/v1")

    async def two_rollouts() -> list[str | None]:
        client = PoolClient(pool)
        reasons = []
        for calls in (6, 4):
            for _ in range(calls):
                await client.ask("Atlas", "who?")
            reasons.append(client.health.end_rollout())
        await client.close()
        return reasons

    first, second = asyncio.run(two_rollouts())
    server.shutdown()
    assert first is None, "four refusals are not yet eight"
    assert second is not None
    assert second.startswith("Atlas refused every call since")
    assert "8 in a row; 100% of the last rollout's calls failed" in second


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_failed_share": 1.5}, "max_failed_share"),
        ({"failed_rollouts": 0}, "failed_rollouts"),
        ({"refusals": -1}, "refusals"),
    ],
)
def test_senseless_limits_are_refused(limits: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        health(**limits)
