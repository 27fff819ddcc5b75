"""Which branch of the reward's hierarchy a trajectory took, and with which coefficients.

Guarantees: a branch is named only by the recorded scores; a recorded reward that the formula does
not give is flagged, never explained away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router_r1.evaluation.records import RoutedRecord
from router_r1.pool.config import PoolConfig
from router_r1.reward import combine
from router_r1.reward.format import FormatPenalties, format_reward
from verl.trainer.evaluation.records import EvaluationRecord

_TOLERANCE = 1e-6
# One penalty a group, so that the penalty tells the group.
_GROUPS = FormatPenalties(broken_tags=-1.0, wrong_structure=-2.0, bad_call=-3.0)
_FAULTS = {
    -1.0: "a tag is not closed, nested or empty",
    -2.0: "the blocks are not those of a router's answer (one answer, thinking first, as many "
    "replies as searches)",
    -3.0: "a search does not name an LLM of the pool and one clear question",
}


@dataclass(frozen=True)
class RewardRule:
    """What the rewards were computed with.

    Attributes:
        metric: "em" or "f1"; None if neither explains the records.
        cost_coe: weight of the cost; None if unknown.
        inferred: whether ``cost_coe`` was inferred from the rewards themselves.
    """

    metric: str | None
    cost_coe: float | None
    inferred: bool


def reward_rule(records: Sequence[EvaluationRecord], results: dict[str, Any]) -> RewardRule:
    """As ``results`` states it, else as the recorded scores imply it."""
    metric = results.get("reward_metric") or _implied_metric(records)
    stated = results.get("cost_coe")
    if stated is not None:
        return RewardRule(metric, float(stated), inferred=False)
    return RewardRule(metric, _implied_cost_coe(records), inferred=True)


def _implied_metric(records: Sequence[EvaluationRecord]) -> str | None:
    for name in ("em", "f1"):
        if all(_close(r.scores.get("metric"), r.scores.get(name)) for r in records):
            return name
    return None


def _implied_cost_coe(records: Sequence[EvaluationRecord]) -> float | None:
    """reward = (1 - a) s + a c gives a, if every right answer agrees on it."""
    estimates = []
    for record in records:
        scores = record.scores
        if branch_of(record) != "joined" or "cost_reward" not in scores:
            continue
        spread = scores["metric"] - scores["cost_reward"]
        if abs(spread) > 0.01:
            estimates.append((scores["metric"] - scores["reward"]) / spread)
    if not estimates or max(estimates) - min(estimates) > 1e-4:
        return None
    return round(min(1.0, max(0.0, sum(estimates) / len(estimates))), 4)


def branch_of(record: EvaluationRecord) -> str:
    """``format`` (a rule broken), ``outcome`` (wrong answer), ``joined`` or ``unknown``."""
    scores = record.scores
    if not {"format", "metric", "reward"} <= scores.keys():
        return "unknown"
    if scores["format"] < 0:
        return "format"
    return "joined" if scores["metric"] > 0 else "outcome"


def follows(record: EvaluationRecord, rule: RewardRule) -> bool:
    """Whether the recorded reward is the one that the formula gives, as far as it is known."""
    branch, scores = branch_of(record), record.scores
    if branch == "unknown" or (branch == "joined" and rule.cost_coe is None):
        return True
    expected = combine(
        scores["format"], scores["metric"], scores.get("cost_reward", 0.0), rule.cost_coe or 0.0
    )
    return abs(expected - scores["reward"]) < 1e-4


def format_fault(record: RoutedRecord, pool: PoolConfig | None) -> str | None:
    """Which group of format rules a trajectory breaks; None if none, or without its pool."""
    if pool is None or not record.scores.get("format", 0.0) < 0:
        return None
    told = record.trajectory
    return _FAULTS.get(format_reward(told.response_text, pool, _GROUPS, told.tags))


def _close(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, abs_tol=_TOLERANCE)
