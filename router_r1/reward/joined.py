"""Joins format, outcome, cost and latency: a broken format earns its penalty, a wrong answer 0.

With s the outcome, c and l the rewards of cost and latency, and a, b their weights, a right answer
in the right format earns

* ``hierarchical``: ``(1 - a - b) * s + a * c + b * l``, with b = 0 the reward of Router-R1 (Zhang,
  Feng and You, NeurIPS 2025, arXiv 2506.09033);
* ``multiplicative``: ``s * (1 - a * (1 - c) - b * (1 - l))``.

For s = 1 both are the same number. For 0 < s < 1 the hierarchical form pays a cheap route a * c
whatever the answer is worth; the multiplicative one never pays more than s.
"""

from __future__ import annotations

REWARD_FORMS = ("hierarchical", "multiplicative")


def combine(
    format_score: float,
    outcome: float,
    cost_reward: float,
    cost_coe: float,
    latency_reward: float = 0.0,
    latency_coe: float = 0.0,
    form: str = "hierarchical",
) -> float:
    """The reward of one trajectory.

    Args:
        format_score: 0.0, or the format penalty.
        outcome: EM or F1 in [0, 1].
        cost_reward, latency_reward: in [0, 1]; cheap and fast are 1.
        cost_coe, latency_coe: their weights a and b; a + b is at most 1.
        form: one of :data:`REWARD_FORMS`.
    """
    if format_score < 0:
        return format_score
    if outcome <= 0:
        return 0.0
    own_weight = 1.0 - cost_coe - latency_coe
    thrift = cost_coe * cost_reward + latency_coe * latency_reward
    if form == "multiplicative":
        return outcome * (own_weight + thrift)
    return own_weight * outcome + thrift
