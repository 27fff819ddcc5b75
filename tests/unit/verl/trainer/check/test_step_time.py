"""The model of a step's time: limits that are known without it."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from benchmarks.event_simulation import simulate
from benchmarks.simulated_scaling import quota_for_overlap, quota_for_rollouts
from verl.forecast import OutsideCalls, Work
from verl.trainer.check.step_time import (
    Bound,
    Rates,
    rollout_time,
    step_time,
)

CALLS = OutsideCalls(each=1.0, median_s=2.0, p99_s=15.0)
WORK = Work(1024, CALLS, prompt_tokens=500, turn_tokens=100, observation_tokens=200)
RATES = Rates(
    decode_step_s=0.02,
    decode_sequence_s=3e-5,
    scoring_tokens_per_s=50_000,
    update_tokens_per_s=13_000,
    publish_s=1.0,
    turn_s=1e-3,
    trajectory_s=1e-4,
)
PARAMETERS = 3e9


def test_latency_is_log_normal() -> None:
    rng = random.Random(0)
    drawn = sorted(CALLS.median_s * math.exp(rng.gauss(0, CALLS.sigma)) for _ in range(50_000))
    assert drawn[25_000] == pytest.approx(CALLS.median_s, rel=0.03)
    assert drawn[49_500] == pytest.approx(CALLS.p99_s, rel=0.1)
    assert sum(drawn) / len(drawn) == pytest.approx(CALLS.mean_s, rel=0.03)


def test_the_slowest_of_many_calls_is_expected_where_it_is_drawn() -> None:
    rng = random.Random(0)
    slowest = [
        max(CALLS.median_s * math.exp(rng.gauss(0, CALLS.sigma)) for _ in range(1000))
        for _ in range(200)
    ]
    assert CALLS.slowest_s(1000) == pytest.approx(sum(slowest) / len(slowest), rel=0.1)
    assert replace(CALLS, limit_s=10.0).slowest_s(1000) == 10.0


def test_the_slowest_of_many_sums_is_expected_where_it_is_drawn() -> None:
    rng, calls = random.Random(0), OutsideCalls(each=3.0, median_s=10.0, p99_s=45.0)

    def three() -> float:
        return sum(calls.median_s * math.exp(rng.gauss(0, calls.sigma)) for _ in range(3))

    slowest = [max(three() for _ in range(1000)) for _ in range(100)]
    assert calls.slowest_s(1000) == pytest.approx(sum(slowest) / len(slowest), rel=0.15)


def test_without_calls_the_engine_decides() -> None:
    rollout = rollout_time(replace(WORK, calls=replace(CALLS, each=0.0)), RATES, gpus=8)
    assert rollout.bound is Bound.ENGINE
    prefill_s, decode_s = 128 * 500 / 50_000, 100 * (0.02 + 128 * 3e-5)
    assert rollout.seconds == pytest.approx(prefill_s + decode_s)


def test_a_narrow_quota_decides_and_is_used_all_the_time() -> None:
    narrow = replace(WORK, calls=replace(CALLS, at_once=16))
    rollout = rollout_time(narrow, RATES, gpus=8)
    assert rollout.bound is Bound.QUOTA
    assert rollout.seconds >= 1024 * CALLS.mean_s / 16
    by_minute = replace(WORK, calls=replace(CALLS, per_minute=60.0))
    assert rollout_time(by_minute, RATES, gpus=8).seconds >= 1024.0


def test_the_quota_that_is_advised_costs_a_twentieth() -> None:
    advised = quota_for_rollouts(WORK, RATES, gpus=8)
    free = rollout_time(WORK, RATES, gpus=8)
    wide = rollout_time(replace(WORK, calls=replace(CALLS, at_once=advised)), RATES, gpus=8)
    later = (wide.seconds - wide.first_s) / (free.seconds - free.first_s)
    assert later == pytest.approx(1.054, abs=0.01)


def test_a_shorter_step_wants_a_wider_quota() -> None:
    few, many = (step_time(WORK, RATES, gpus, PARAMETERS) for gpus in (8, 64))
    assert quota_for_overlap(WORK, many) > quota_for_overlap(WORK, few)


def test_the_parts_add_up_and_the_drivers_part_does_not_shrink_with_gpus() -> None:
    one, many = (step_time(WORK, RATES, gpus, PARAMETERS) for gpus in (1, 64))
    for step in (one, many):
        trained = step.scoring_s + step.update_s + step.publish_s
        assert step.seconds == step.rollout.seconds + trained + step.driver_s
    assert many.update_s < one.update_s
    assert many.driver_s == one.driver_s == pytest.approx(0.1024)
    huge = replace(WORK, trajectories=100_000)
    assert rollout_time(huge, RATES, gpus=512).bound is Bound.DRIVER


def test_slow_links_bound_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verl.trainer.check.step_time._BETWEEN", 1e9)
    slow = step_time(WORK, RATES, 64, PARAMETERS)
    gathered_s = 2 * PARAMETERS * 63 / 64 / 1e9
    assert slow.update_s == pytest.approx(WORK.updates * 4 * gathered_s)


@pytest.mark.parametrize("at_once", [None, 64])
def test_it_agrees_with_a_simulation_of_every_event(at_once: int | None) -> None:
    work = replace(WORK, calls=replace(CALLS, at_once=at_once))
    played = [simulate(work, RATES, gpus=8, seed=seed) for seed in range(10)]
    assert {one.ended for one in played} == {work.trajectories}
    assert at_once is None or {one.most_calls for one in played} == {at_once}
    seconds = sum(one.seconds for one in played) / len(played)  # the slowest call differs widely
    assert rollout_time(work, RATES, gpus=8).seconds == pytest.approx(seconds, rel=0.2)


def test_one_trajectory_alone_is_simulated_to_take_as_long_as_its_parts() -> None:
    """Prefill, three turns, two calls, and the driver."""
    calls = OutsideCalls(each=2.0, median_s=3.0, p99_s=3.0)
    work = Work(1, calls, prompt_tokens=500, turn_tokens=100, observation_tokens=200)
    played = simulate(work, RATES, gpus=1)
    turns = played.seconds - 2 * 3.0 - (500 + 2 * 200) / 50_000 - 3 * RATES.turn_s
    assert turns == pytest.approx(3 * 100 * RATES.decode_s(1), rel=0.5)  # lengths are drawn
    assert simulate(work, RATES, gpus=1) == played
