"""A metric that leaves its normal range is announced once, with its name and the step."""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl.config.alarms import AlarmRule, AlarmsConfig
from verl.config.validation import ConfigError
from verl.trainer.ppo.alarms import Alarms
from verl.trainer.ppo.metrics import group_metrics


def warnings_of(
    rule: AlarmRule, values: Sequence[float], early_steps: int = 2, window: int = 1
) -> dict[int, str]:
    """Warnings by step, counted from 1."""
    alarms = Alarms(AlarmsConfig(early_steps=early_steps, window=window), [rule])
    found = {}
    for step, value in enumerate(values, start=1):
        for warning in alarms.check(step, {rule.metric: value, "other": math.nan}):
            assert step not in found
            found[step] = warning
    return found


def test_a_metric_that_falls_is_announced_once_with_name_step_and_range(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rule = AlarmRule("calls", falls_to=0.5, advice="look at the prompts")
    with caplog.at_level(logging.WARNING):
        found = warnings_of(rule, [2.0, 2.0, 1.5, 0.9, 0.2, 0.0])
    assert list(found) == [4]
    assert found[4] == (
        "calls has left its normal range at step 4: 0.9 over the last 1 step, below 1 (early in "
        "the run: 2); look at the prompts"
    )
    assert [record.getMessage() for record in caplog.records] == [found[4]]


def test_it_is_announced_again_only_after_it_has_been_back() -> None:
    rule = AlarmRule("entropy", rises_to=2.0)
    assert list(warnings_of(rule, [1, 1, 3, 3, 1, 1, 3, 3])) == [3, 7]


def test_an_engine_far_from_the_trainer_is_announced() -> None:
    alarms = Alarms(AlarmsConfig(early_steps=1, window=1))
    told = [
        alarms.check(step, {"rollout/log_prob_gap": gap}) for step, gap in ((1, 0.034), (2, 0.2))
    ]
    assert told[0] == []
    (warning,) = told[1]
    assert "rollout/log_prob_gap" in warning
    assert "rollout_correction.level" in warning


def test_one_odd_batch_raises_no_alarm() -> None:
    rule = AlarmRule("calls", falls_to=0.5)
    assert list(warnings_of(rule, [2, 2, 2, 0, 2, 2, 0, 0, 2], window=3)) == [8]


def test_the_wider_of_two_bounds_counts() -> None:
    """A policy that starts badly may stay bad; one that starts well has room up to the bound."""
    rule = AlarmRule("format_failure", above=0.3, rises_to=1.5)
    assert warnings_of(rule, [0.0, 0.02, 0.1, 0.29]) == {}
    assert list(warnings_of(rule, [0.0, 0.02, 0.1, 0.31])) == [4]
    assert warnings_of(rule, [0.6, 0.6, 0.8, 0.89]) == {}
    assert list(warnings_of(rule, [0.6, 0.6, 0.8, 0.91])) == [4]


def test_an_absolute_bound_holds_from_the_first_judged_step_on() -> None:
    rule = AlarmRule("groups", above=0.9)
    assert list(warnings_of(rule, [1.0] * 6, early_steps=3)) == [3]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_announced_at_once(bad: float) -> None:
    rule = AlarmRule("loss", rises_to=2.0)
    (warning,) = warnings_of(rule, [1.0, bad, bad, 1.0], early_steps=3).values()
    assert "at step 2" in warning


@given(st.lists(st.floats(allow_nan=True), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_no_values_break_it_or_make_it_repeat_itself(
    values: list[float], early: int, window: int
) -> None:
    rule = AlarmRule("x", below=-1.0, above=1.0, falls_to=0.5, rises_to=2.0)
    found = list(warnings_of(rule, values, early, window))
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(found))


def test_the_users_rule_takes_the_place_of_ours_and_one_without_bounds_is_silent() -> None:
    falling = [{"actor/entropy": value} for value in (1.0, 0.3, 0.01)]
    cases = [
        ([], [3]),
        ([AlarmRule("actor/entropy", falls_to=0.5)], [2]),
        ([AlarmRule("actor/entropy")], []),
    ]
    for rules, expected in cases:
        alarms = Alarms(AlarmsConfig(early_steps=1, window=1, rules=rules))
        steps = [i for i, metrics in enumerate(falling, start=1) if alarms.check(i, metrics)]
        assert steps == expected
    off = Alarms(AlarmsConfig(enabled=False, early_steps=1, window=1))
    assert not any(off.check(i, metrics) for i, metrics in enumerate(falling))


@pytest.mark.parametrize(
    "bounds", [{"falls_to": 1.5}, {"rises_to": 0.5}, {"below": 2.0, "above": 1.0}]
)
def test_senseless_ranges_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.alarms\.rules: x"):
        AlarmRule("x", **bounds)  # type: ignore[arg-type]


def test_groups_without_variance_are_counted_by_prompt() -> None:
    scores = np.array([1.0, 0.0, 1.0, 0.5, 0.5, 0.5])
    uids = np.array(["a", "b", "a", "c", "b", "c"], dtype=object)
    assert group_metrics(scores, uids) == {"rollout/groups_without_variance": 2 / 3}


def test_alarms_go_on_with_what_they_have_seen() -> None:
    rule = AlarmRule("calls", falls_to=0.5)

    def alarms() -> Alarms:
        return Alarms(AlarmsConfig(early_steps=2, window=1), [rule])

    before, later = alarms(), alarms()
    for step, value in enumerate((2.0, 2.0, 0.5), start=1):
        told = before.check(step, {"calls": value})
    assert len(told) == 1
    later.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert later.check(4, {"calls": 0.5}) == [], "it was told already"
    assert later.check(5, {"calls": 2.0}) == []
    assert len(later.check(6, {"calls": 0.5})) == 1, "and the early mean is still known"
