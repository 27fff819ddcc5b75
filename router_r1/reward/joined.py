"""Joins format, outcome and cost: a broken format earns its penalty, a wrong answer 0."""

from __future__ import annotations


def combine(format_score: float, outcome: float, cost_reward: float, cost_coe: float) -> float:
    """The reward of one trajectory.

    Args:
        format_score: 0.0, or the format penalty.
        outcome: EM or F1 in [0, 1].
        cost_reward: in [0, 1], cheap is 1.
        cost_coe: weight alpha of the cost in [0, 1].
    """
    if format_score < 0:
        return format_score
    if outcome <= 0:
        return 0.0
    return (1.0 - cost_coe) * outcome + cost_coe * cost_reward
