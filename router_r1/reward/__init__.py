"""The reward: format first, then the outcome, then cost and latency.

A broken format earns its penalty whatever the answer; a wrong answer earns 0 whatever the cost; a
right one earns ``(1 - cost_coe) * outcome + cost_coe * cost_reward``, unless another form or a
weight of latency is set (:mod:`router_r1.reward.joined`).
"""

from router_r1.reward.cost import CostNormalizer, CostScale
from router_r1.reward.format import format_reward
from router_r1.reward.joined import combine
from router_r1.reward.outcome import exact_match, f1_score
from router_r1.tags import extract_answer

__all__ = [
    "CostNormalizer",
    "CostScale",
    "combine",
    "exact_match",
    "extract_answer",
    "f1_score",
    "format_reward",
]
