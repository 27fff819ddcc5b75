"""Which branch of the reward's hierarchy a trajectory took, and with which coefficients.

Guarantees: a branch is named only by the recorded scores; a recorded reward that the formula does
not give is flagged, never explained away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from router_r1.evaluation.frames import RoutedRecord
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.preference import CostPreference
from router_r1.reward import combine
from router_r1.reward.cost import CostScale, RewardScales, cost_in
from router_r1.reward.format import FormatPenalties, format_reward
from verl.config.validation import ConfigError
from verl.trainer.evaluation.records import EvaluationRecord

# One penalty a group, so that the penalty tells the group.
_GROUPS = FormatPenalties(broken_tags=-1.0, wrong_structure=-2.0, bad_call=-3.0)
_FAULTS = {
    -1.0: "a tag is not closed, nested or empty",
    -2.0: "the blocks are not those of a router's answer (one answer, thinking first, as many "
    "replies as searches)",
    -3.0: "a search does not name an LLM of the pool and one clear question",
}
# What ``results.json`` says of the reward's settings, and their keys in a run's config.
_REWARD_FACTS = {"cost_unit": "cost_unit", "latency_coe": "latency_coe", "reward_form": "form"}


@dataclass(frozen=True)
class RewardRule:
    """What the rewards were computed with.

    Attributes:
        metric: "em" or "f1"; None if neither explains the records.
        cost_coe: weight of the cost; None if unknown, or if each question has one of its own.
        inferred: whether ``cost_coe`` was inferred from the rewards.
        scales, cost_unit, latency_coe, form: of :class:`router_r1.reward.manager.RewardConfig`; a
            scale is None where it moved from one trajectory to the next, or is unknown.
    """

    metric: str | None
    cost_coe: float | None
    inferred: bool
    scales: RewardScales = field(default_factory=RewardScales)
    cost_unit: str = "completion"
    latency_coe: float = 0.0
    form: str = "hierarchical"

    def cost_coe_of(self, record: RoutedRecord) -> float | None:
        """The weight of cost that a trajectory was rewarded with; None if unknown."""
        own = record.trajectory.cost_coe
        return self.cost_coe if own is None else own


def reward_rule(records: Sequence[EvaluationRecord], results: Mapping[str, Any]) -> RewardRule:
    """As ``results`` states it, else as the recorded scores imply it."""
    metric, stated = results.get("reward_metric"), results.get("cost_coe")
    if not metric:
        explaining = (n for n in ("em", "f1") if all(_metric_is(n, r.scores) for r in records))
        metric = next(explaining, None)
    if stated is not None:
        return RewardRule(
            metric,
            CostPreference.read(stated).single,
            inferred=False,
            scales=stated_scales(results),
            cost_unit=results.get("cost_unit", "completion"),
            latency_coe=float(results.get("latency_coe", 0.0)),
            form=results.get("reward_form", "hierarchical"),
        )
    # reward = (1 - a) s + a c gives a, if every right answer agrees on it. With a latency reward
    # beside it there are two unknowns.
    joined = [r.scores for r in records if branch_of(r) == "joined"]
    estimates = [
        (s["metric"] + s.get("step_reward", 0.0) - s["reward"]) / spread
        for s in joined
        if "latency_reward" not in s
        and "cost_reward" in s
        and abs(spread := s["metric"] - s["cost_reward"]) > 0.01
    ]
    if not estimates or max(estimates) - min(estimates) > 1e-4:
        return RewardRule(metric, None, inferred=True)
    mean = min(1.0, max(0.0, sum(estimates) / len(estimates)))
    return RewardRule(metric, round(mean, 4), inferred=True)


def stated_by_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's config, what ``results.json`` says of an evaluation; a KeyError, TypeError or
    AttributeError if it is no config of a router's run."""
    pool, reward = config["pool"]["name"], config.get("reward", {})
    return {
        "pool": pool,
        "reward_metric": reward.get("function") or config["reward_metric"],
        "cost_coe": config["cost_coe"],
        **{name: reward[key] for name, key in _REWARD_FACTS.items() if key in reward},
    }


def stated_scales(results: Mapping[str, Any]) -> RewardScales:
    """Of cost and latency, as ``results`` states them."""
    stated = (results.get("cost_scale"), results.get("latency_scale"))
    return RewardScales(*(CostScale(**bounds) if bounds else None for bounds in stated))


def _metric_is(name: str, scores: Mapping[str, float]) -> bool:
    known = {name, "metric"} <= scores.keys()
    return known and math.isclose(scores["metric"], scores[name], abs_tol=1e-6)


def branch_of(record: EvaluationRecord) -> str:
    """``format`` (a rule broken), ``outcome`` (wrong answer), ``joined`` or ``unknown``."""
    scores = record.scores
    if not {"format", "metric", "reward"} <= scores.keys():
        return "unknown"
    if scores["format"] < 0:
        return "format"
    return "joined" if scores["metric"] > 0 else "outcome"


def follows(record: RoutedRecord, rule: RewardRule) -> bool:
    """Whether the recorded reward is the one that the formula gives, as far as it is known."""
    branch, scores, cost_coe = branch_of(record), record.scores, rule.cost_coe_of(record)
    if branch == "joined":
        seconds, cost = record.trajectory.latency_s, None
        if {"cost", "dollars"} <= scores.keys():
            cost = cost_in(rule.cost_unit, scores["cost"], scores["dollars"])
        if not (
            _scale_gives(scores, "cost_reward", rule.scales.cost, cost)
            and _scale_gives(scores, "latency_reward", rule.scales.latency, seconds)
        ):
            return False
    if branch == "unknown" or (branch == "joined" and cost_coe is None):
        return True
    expected = combine(
        scores["format"],
        scores["metric"],
        scores.get("cost_reward", 0.0),
        cost_coe or 0.0,
        scores.get("latency_reward", 0.0),
        rule.latency_coe,
        rule.form,
    )
    return abs(expected + scores.get("step_reward", 0.0) - scores["reward"]) < 1e-4


def _scale_gives(
    scores: Mapping[str, float], name: str, scale: CostScale | None, value: float | None
) -> bool:
    """Whether a cost or latency reward is that of the value, as far as both are known."""
    known = {name, "failed_calls", "route_cnt"} <= scores.keys()
    if scale is None or value is None or not known:
        return True
    all_failed = scores["failed_calls"] > 0 and scores["route_cnt"] == 0
    expected = 0.0 if all_failed else scale.reward(value)
    return abs(expected - scores[name]) < 1e-4


def format_fault(record: RoutedRecord, pool: PoolConfig | None) -> str | None:
    """Which group of format rules a trajectory breaks; None if none, or without its pool."""
    if pool is None or not record.scores.get("format", 0.0) < 0:
        return None
    told = record.trajectory
    names = told.offered or pool
    return _FAULTS.get(format_reward(told.response_text, names, _GROUPS, told.tags))


def known_pool(name: str | None) -> PoolConfig | None:
    """The pool that was used, to explain format failures; None where its file is not known."""
    try:
        return load_pool(name) if name else None
    except ConfigError:
        return None
