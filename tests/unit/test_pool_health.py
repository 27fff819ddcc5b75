"""A run that cannot reach its LLMs is told to stop, and why."""

from __future__ import annotations

import re

import pytest

from router_r1.pool.health import HealthConfig, PoolHealth
from router_r1.pool.outcome import CallResult, Outcome
from verl.config.validation import ConfigError

POLICYS_OWN = (
    Outcome.UNKNOWN_LLM,
    Outcome.INVALID_QUERY,
    Outcome.BUDGET,
    Outcome.NOT_RECORDED,
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


def test_every_other_failure_is_the_pools() -> None:
    broken = {outcome for outcome in Outcome if outcome.infrastructure}
    assert broken == set(Outcome) - {Outcome.OK, *POLICYS_OWN}


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
