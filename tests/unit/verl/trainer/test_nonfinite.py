"""A run whose updates are no longer made ends."""

from __future__ import annotations

import pytest

from verl.config.ppo import TrainerConfig
from verl.config.validation import ConfigError
from verl.trainer.nonfinite import NonFiniteGuard, NonFiniteUpdatesError

GOOD = {"actor/nonfinite_steps": 0.0, "critic/nonfinite_steps": 0.0}
BAD = {"actor/nonfinite_steps": 0.0, "critic/nonfinite_steps": 0.25}
WITHOUT_UPDATE = {"rollout/excluded": 16.0}


def guard_of(limit: int | None) -> NonFiniteGuard:
    return NonFiniteGuard(limit, "the rewards")


def test_only_steps_in_a_row_count() -> None:
    guard = guard_of(3)
    for metrics in (BAD, BAD, GOOD, BAD, WITHOUT_UPDATE, BAD):
        guard.observe(metrics)
        guard.check()
    guard.observe(BAD)
    with pytest.raises(
        NonFiniteUpdatesError,
        match=r"3 training steps .*look at the rewards .*max_nonfinite_steps=3",
    ):
        guard.check()


def test_the_count_goes_on_and_the_limit_can_be_switched_off() -> None:
    guard = guard_of(2)
    guard.observe(BAD)
    later, never = guard_of(2), guard_of(None)
    for other in (later, never):
        other.load_state_dict(guard.state_dict())
        other.observe(BAD)
    never.check()
    with pytest.raises(NonFiniteUpdatesError):
        later.check()
    with pytest.raises(ConfigError, match="max_nonfinite_steps"):
        TrainerConfig(max_nonfinite_steps=0)
