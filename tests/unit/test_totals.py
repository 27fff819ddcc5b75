"""What a run will have spent at its end, extrapolated from what it has."""

from __future__ import annotations

import pytest

from verl.trainer.ppo.totals import RunningTotal, Totals

SPENT = RunningTotal("spent", "spent", "${:.2f}".format)


def test_trajectories_to_come_use_what_those_before_did() -> None:
    totals = Totals([SPENT], planned=1000)
    assert totals.observe({"spent": 1.0}, 100) == {"spent_at_end": pytest.approx(10.0)}
    estimate = totals.observe({"spent": 4.0}, 100)
    assert estimate == {"spent_at_end": pytest.approx(4.0 + 800 * 4.0 / 200)}
    assert totals.describe({"spent": 4.0, **estimate}) == ["spent $4.00 of about $20.00"]


def test_a_policy_that_has_changed_is_judged_by_its_last_ten_steps() -> None:
    totals = Totals([SPENT], planned=3000)
    spent = 0.0
    for step in range(1, 21):
        spent += 5.0 if step <= 10 else 1.0
        estimate = totals.observe({"spent": spent}, 100)
    assert estimate["spent_at_end"] == pytest.approx(60.0 + 1000 * 10.0 / 1000)


def test_at_the_end_the_estimate_is_what_was_spent() -> None:
    totals = Totals([SPENT], planned=100)
    assert totals.observe({"spent": 2.5}, 100) == {"spent_at_end": 2.5}
    assert totals.observe({"spent": 3.0}, 50) == {"spent_at_end": 3.0}, "more than was planned"


def test_a_limit_caps_the_estimate() -> None:
    totals = Totals([RunningTotal("spent", "spent", str, limit=5.0)], planned=1000)
    assert totals.observe({"spent": 1.0}, 100) == {"spent_at_end": 5.0}


def test_a_task_without_totals_shows_nothing() -> None:
    assert Totals([], planned=10).observe({"spent": 1.0}, 5) == {}
    totals = Totals([SPENT], planned=10)
    assert totals.observe({"reward": 1.0}, 5) == {}
    assert totals.describe({"reward": 1.0}) == []
