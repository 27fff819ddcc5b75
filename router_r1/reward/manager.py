"""The reward of a batch of routed trajectories.

Guarantees: EM and F1 are those of the policy's own answer; validation leaves the training window
of the cost reward untouched; a trajectory whose calls all failed gets no cost credit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from router_r1.pool.config import PoolConfig
from router_r1.reward.cost import CostNormalizer
from router_r1.reward.format import FormatPenalties, format_reward
from router_r1.reward.joined import combine
from router_r1.reward.normalization import NORMALIZATIONS
from router_r1.reward.outcome import exact_match, f1_score
from verl.config.validation import require_choice, require_positive
from verl.interfaces import RewardOutput

if TYPE_CHECKING:
    from router_r1.llm_agent.trajectory import Call, RoutedTrajectory
    from verl.protocol import DataProto


@dataclass
class RewardConfig:
    """The reward's own settings.

    Attributes:
        penalties: of the format rules.
        cost_window: trajectories that the cost percentiles are taken over.
        normalization: of answers, one of
            :data:`~router_r1.reward.normalization.NORMALIZATIONS`.
    """

    penalties: FormatPenalties = field(default_factory=FormatPenalties)
    cost_window: int = 1000
    normalization: str = "paper"

    def __post_init__(self) -> None:
        require_choice("reward.normalization", self.normalization, NORMALIZATIONS)
        require_positive(**{"reward.cost_window": self.cost_window})


class RoutingRewardFunction:
    """Implements :class:`verl.interfaces.RewardFunction`.

    Args:
        config: penalties, window and normalisation.
        pool: which names a call may use.
        reward_metric: "em" or "f1": what training optimises.
        cost_coe: weight of the cost.
    """

    def __init__(
        self, config: RewardConfig, pool: PoolConfig, reward_metric: str, cost_coe: float
    ) -> None:
        self._penalties = config.penalties
        self._pool = pool
        self._normalization = config.normalization
        self._reward_metric = reward_metric
        self._cost_coe = cost_coe
        self._normalizer = CostNormalizer(config.cost_window)

    def __call__(self, batch: DataProto, validate: bool) -> RewardOutput:
        """Scores trajectories; reads the columns ``record`` and ``ground_truth``."""
        records = batch.non_tensor_batch["record"]
        golds = batch.non_tensor_batch["ground_truth"]
        rows = [
            self._score_one(record, list(gold), validate)
            for record, gold in zip(records, golds, strict=True)
        ]
        columns = {
            name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]
        }
        return RewardOutput(scores=columns.pop("reward"), metrics=columns)

    def _score_one(
        self, record: RoutedTrajectory, gold: list[str], validate: bool
    ) -> dict[str, float]:
        answer = record.answer or ""  # which is never right
        scores = {
            "em": exact_match(answer, gold, self._normalization),
            "f1": f1_score(answer, gold, self._normalization),
        }
        cost = float(record.cost)
        all_failed = record.routed_calls == 0 and record.failed_calls > 0
        if all_failed:
            cost_reward = 0.0
        else:
            cost_reward = self._normalizer.peek(cost) if validate else self._normalizer(cost)
        format_score = format_reward(record.response_text, self._pool, self._penalties, record.tags)
        outcome = scores[self._reward_metric]
        return {
            "reward": combine(format_score, outcome, cost_reward, self._cost_coe),
            "metric": outcome,
            **scores,
            "format": format_score,
            "format_failure": float(format_score < 0),
            "cost_reward": cost_reward,
            "cost": cost,
            "dollars": float(record.dollars),
            "route_cnt": float(record.routed_calls),
            "failed_calls": float(record.failed_calls),
            "num_turns": float(len(record.turns)),
            "valid_actions": float(record.valid_actions),
            "finished": float(record.finished),
            **self._calls_by_llm(record.calls),
        }

    def _calls_by_llm(self, calls: Sequence[Call]) -> dict[str, float]:
        """``calls/{llm}``: how often each LLM of the pool was asked."""
        asked = Counter(call.result.llm for call in calls)
        return {f"calls/{llm.name}": float(asked[llm.name]) for llm in self._pool.llms}

    def state_dict(self) -> dict[str, Any]:
        """The cost window."""
        return {"normalizer": self._normalizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the cost window."""
        self._normalizer.load_state_dict(state["normalizer"])
