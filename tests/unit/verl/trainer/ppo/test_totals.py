"""What a run will have spent at its end, extrapolated from what it has."""

from __future__ import annotations

import json

import pytest

from verl.forecast import RunningTotal
from verl.trainer.ppo.totals import Kind, Totals

SPENT = RunningTotal("spent", "spent", "${:.2f}".format)


def totals(training: int, validation: int = 0, total: RunningTotal = SPENT) -> Totals:
    return Totals([total], {Kind.TRAINING: training, Kind.VALIDATION: validation})


def test_trajectories_to_come_use_what_those_before_did() -> None:
    run = totals(1000)
    assert run.observe({"spent": 1.0}, 100, Kind.TRAINING)["spent_at_end"] == pytest.approx(10.0)
    estimate = run.observe({"spent": 4.0}, 100, Kind.TRAINING)
    assert estimate == {"spent_at_end": pytest.approx(4.0 + 800 * 4.0 / 200)}
    assert run.describe({"spent": 4.0, **estimate}) == ["spent $4.00 of about $20.00"]


def test_a_policy_that_has_changed_is_judged_by_its_last_ten_steps() -> None:
    run, spent = totals(3000), 0.0
    for step in range(1, 21):
        spent += 5.0 if step <= 10 else 1.0
        estimate = run.observe({"spent": spent}, 100, Kind.TRAINING)
    assert estimate["spent_at_end"] == pytest.approx(60.0 + 1000 * 10.0 / 1000)


def test_validations_are_taken_to_cost_what_the_last_of_them_did() -> None:
    run = totals(training=400, validation=300)
    first = run.observe({"spent": 1.0}, 100, Kind.VALIDATION)
    assert first["spent_at_end"] == pytest.approx(1.0 + (400 + 200) * 0.01), "all there is to go by"
    run.observe({"spent": 5.0}, 100, Kind.TRAINING)
    later = run.observe({"spent": 8.0}, 100, Kind.VALIDATION)
    assert later["spent_at_end"] == pytest.approx(8.0 + 300 * 0.04 + 100 * 0.03)


def test_at_the_end_the_estimate_is_what_was_spent() -> None:
    run = totals(100)
    assert run.observe({"spent": 2.5}, 100, Kind.TRAINING) == {"spent_at_end": 2.5}
    more_than_planned = run.observe({"spent": 3.0}, 50, Kind.TRAINING)
    assert more_than_planned == {"spent_at_end": 3.0}


def test_a_limit_caps_the_estimate() -> None:
    run = totals(1000, total=RunningTotal("spent", "spent", str, limit=5.0))
    assert run.observe({"spent": 1.0}, 100, Kind.TRAINING) == {"spent_at_end": 5.0}


def test_a_task_without_totals_shows_nothing() -> None:
    none = Totals([], {Kind.TRAINING: 10, Kind.VALIDATION: 0})
    assert none.observe({"spent": 1.0}, 5, Kind.TRAINING) == {}
    run = totals(10)
    assert run.observe({"reward": 1.0}, 5, Kind.TRAINING) == {}
    assert run.describe({"reward": 1.0}) == []


def test_a_run_that_goes_on_estimates_as_if_it_had_not_been_interrupted() -> None:
    straight, half, later = (totals(1000, 300) for _ in range(3))
    for run in (straight, half):
        run.observe({"spent": 1.0}, 100, Kind.VALIDATION)
        run.observe({"spent": 5.0}, 100, Kind.TRAINING)
    later.load_state_dict(json.loads(json.dumps(half.state_dict())))
    observed = {"spent": 9.5}, 100, Kind.TRAINING
    assert later.observe(*observed) == straight.observe(*observed)
    longer = totals(2000, 300)
    longer.load_state_dict(half.state_dict())
    assert longer.observe(*observed)["spent_at_end"] > later.observe(*observed)["spent_at_end"]
