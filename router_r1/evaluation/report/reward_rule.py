"""Which branch of the reward's hierarchy a trajectory took, and with which coefficients.

Guarantees: a branch is named only by the recorded scores; a recorded reward that the formula does
not give is flagged, never explained away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from router_r1.evaluation.frames import RoutedRecord
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.reward import CostScale, combine
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


class RewardRule(NamedTuple):
    """What the rewards were computed with: "em" or "f1" (None if neither explains the records),
    the weight of the cost (None if unknown), which may be ``inferred`` from the rewards, and the
    scale of the cost reward (None if it moved from one trajectory to the next, or is unknown)."""

    metric: str | None
    cost_coe: float | None
    inferred: bool
    scale: CostScale | None = None


def reward_rule(records: Sequence[EvaluationRecord], results: Mapping[str, Any]) -> RewardRule:
    """As ``results`` states it, else as the recorded scores imply it."""
    metric, stated = results.get("reward_metric"), results.get("cost_coe")
    scores = [record.scores for record in records]
    for name in ("em", "f1") if not metric else ():
        if all(_agree(s.get("metric"), s.get(name)) for s in scores):
            metric = name
            break
    if stated is not None:
        bounds = results.get("cost_scale")
        scale = CostScale(**bounds) if bounds else None
        return RewardRule(metric, float(stated), inferred=False, scale=scale)
    # reward = (1 - a) s + a c gives a, if every right answer agrees on it.
    joined = [r.scores for r in records if branch_of(r) == "joined" and "cost_reward" in r.scores]
    estimates = [
        (s["metric"] + s.get("step_reward", 0.0) - s["reward"]) / spread
        for s in joined
        if abs(spread := s["metric"] - s["cost_reward"]) > 0.01
    ]
    if not estimates or max(estimates) - min(estimates) > 1e-4:
        return RewardRule(metric, None, inferred=True)
    mean = min(1.0, max(0.0, sum(estimates) / len(estimates)))
    return RewardRule(metric, round(mean, 4), inferred=True)


def _agree(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, abs_tol=1e-6)


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
    if branch == "joined" and not _cost_reward_follows(scores, rule.scale):
        return False
    if branch == "unknown" or (branch == "joined" and rule.cost_coe is None):
        return True
    expected = combine(
        scores["format"], scores["metric"], scores.get("cost_reward", 0.0), rule.cost_coe or 0.0
    )
    return abs(expected + scores.get("step_reward", 0.0) - scores["reward"]) < 1e-4


def _cost_reward_follows(scores: Mapping[str, float], scale: CostScale | None) -> bool:
    if scale is None or not {"cost", "cost_reward", "failed_calls", "route_cnt"} <= scores.keys():
        return True
    all_failed = scores["failed_calls"] > 0 and scores["route_cnt"] == 0
    expected = 0.0 if all_failed else scale.reward(scores["cost"])
    return abs(expected - scores["cost_reward"]) < 1e-4


def format_fault(record: RoutedRecord, pool: PoolConfig | None) -> str | None:
    """Which group of format rules a trajectory breaks; None if none, or without its pool."""
    if pool is None or not record.scores.get("format", 0.0) < 0:
        return None
    told = record.trajectory
    return _FAULTS.get(format_reward(told.response_text, pool, _GROUPS, told.tags))


def known_pool(name: str | None) -> PoolConfig | None:
    """The pool that was used, to explain format failures; None where its file is not known."""
    try:
        return load_pool(name) if name else None
    except ConfigError:
        return None
