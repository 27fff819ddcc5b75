"""Says when training goes wrong in a way that no error shows: a metric leaves its normal range.

Guarantees: one warning per departure, naming metric, step, value and range; the next only after the
metric has been back; nothing is judged before the early mean is known.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from verl.config.alarms import AlarmRule, AlarmsConfig

logger = logging.getLogger(__name__)

FRAMEWORK_RULES = (
    AlarmRule(
        "actor/entropy",
        falls_to=0.1,
        rises_to=3.0,
        advice="the policy no longer explores, or has lost its form; lower the actor's lr, or "
        "raise the KL's or the entropy's coefficient",
    ),
    AlarmRule(
        "rollout/groups_without_variance",
        above=0.9,
        advice="samples of nearly every prompt got the same reward, from which GRPO learns "
        "nothing; the prompts are too easy or too hard, or sampling is too greedy",
    ),
    AlarmRule(
        "rollout/log_prob_gap",
        above=0.1,
        advice="log-probs of engine and trainer differ too much to be left alone; set "
        "algorithm.rollout_correction.level (not with rollout_log_probs_as_old), or, where it is "
        "set, look at rollout_corr/*, the engine's dtype and rollout/steps_late",
    ),
)


class Alarms:
    """Watches the metrics of the training steps.

    The task's rule for a metric takes the place of the framework's, the config's that of both.
    """

    def __init__(self, config: AlarmsConfig, task_rules: Sequence[AlarmRule] = ()) -> None:
        rules = {rule.metric: rule for rule in (*FRAMEWORK_RULES, *task_rules, *config.rules)}
        chosen = rules.values() if config.enabled else ()
        self._watches = [_Watch(rule, config.early_steps, config.window) for rule in chosen]

    def check(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Takes a step's metrics; the warnings they raise, which are logged."""
        warnings = []
        for watch in self._watches:
            value = metrics.get(watch.rule.metric)
            if value is not None and (warning := watch.check(step, value)):
                logger.warning("%s", warning)
                warnings.append(warning)
        return warnings

    def state_dict(self) -> dict[str, Any]:
        """What each watch has seen, by metric."""
        return {watch.rule.metric: watch.state_dict() for watch in self._watches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what the watches had seen; a metric that had none begins anew."""
        for watch in self._watches:
            if watch.rule.metric in state:
                watch.load_state_dict(state[watch.rule.metric])


class _Watch:
    """One metric over the run."""

    def __init__(self, rule: AlarmRule, early_steps: int, window: int) -> None:
        self.rule = rule
        self._early_steps = early_steps
        self._early: list[float] = []
        self._recent: deque[float] = deque(maxlen=window)
        self._outside = False

    def check(self, step: int, value: float) -> str | None:
        """The warning, if the metric has just left its range."""
        self._recent.append(value)
        if math.isfinite(value) and len(self._early) < self._early_steps:
            self._early.append(value)
            if len(self._early) < self._early_steps:
                return None
        mean = _mean(self._recent)
        low, high = self._normal_range() if self._early else (-math.inf, math.inf)
        was_outside = self._outside
        self._outside = not (math.isfinite(mean) and low <= mean <= high)
        if was_outside or not self._outside:
            return None
        return self._describe(step, mean, low, high)

    def state_dict(self) -> dict[str, Any]:
        early, recent = list(self._early), list(self._recent)
        return {"early": early, "recent": recent, "outside": self._outside}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._early = state["early"][: self._early_steps]
        self._recent.extend(state["recent"])
        self._outside = state["outside"]

    def _normal_range(self) -> tuple[float, float]:
        rule, early = self.rule, _mean(self._early)
        lower = [rule.below, None if rule.falls_to is None else rule.falls_to * early]
        upper = [rule.above, None if rule.rises_to is None else rule.rises_to * early]
        low = min((bound for bound in lower if bound is not None), default=-math.inf)
        high = max((bound for bound in upper if bound is not None), default=math.inf)
        return low, high

    def _describe(self, step: int, mean: float, low: float, high: float) -> str:
        if not math.isfinite(mean):
            text = f"{self.rule.metric} is {mean} at step {step}"
        else:
            side = f"below {low:.4g}" if mean < low else f"above {high:.4g}"
            count = len(self._recent)
            text = (
                f"{self.rule.metric} has left its normal range at step {step}: {mean:.4g} over the "
                f"last {count} step{'s' * (count != 1)}, {side}"
            )
            if self.rule.falls_to is not None or self.rule.rises_to is not None:
                text += f" (early in the run: {_mean(self._early):.4g})"
        return text + (f"; {self.rule.advice}" if self.rule.advice else "")


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values)
