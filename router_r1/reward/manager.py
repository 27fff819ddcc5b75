"""The reward of a batch of routed trajectories.

Guarantees: EM and F1 are those of the policy's own answer, also where a function of the user's own
gives the outcome; validation leaves the references of the cost and latency rewards untouched; a
trajectory whose calls all failed gets no credit for either; a trajectory's score holds its step
rewards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from router_r1.pool.config import PoolConfig
from router_r1.pool.outcome import Outcome
from router_r1.reward.cost import (
    COST_REFERENCES,
    COST_UNITS,
    CostNormalizer,
    RewardScales,
    cost_in,
)
from router_r1.reward.format import FormatPenalties, format_reward
from router_r1.reward.joined import REWARD_FORMS, combine
from router_r1.reward.normalization import NORMALIZATIONS
from router_r1.reward.outcome import exact_match, f1_score
from router_r1.reward.outcome_function import check_name, find_outcome_class, judge
from verl.config.validation import POSITIVE, SHARE, ConfigError, Section, one_of
from verl.interfaces import RewardOutput

if TYPE_CHECKING:
    from router_r1.llm_agent.trajectory import Call, RoutedTrajectory
    from verl.protocol import DataProto


@dataclass
class RewardConfig(Section, prefix="reward."):
    """The reward's own settings.

    Attributes:
        penalties: of the format rules.
        form: how outcome, cost and latency join: "hierarchical" or "multiplicative", see
            :mod:`router_r1.reward.joined`.
        cost_unit: which cost is rewarded: "completion", completion tokens x $ per 1M, or
            "dollars", prompt tokens at their price as well.
        cost_reference: which trajectories the percentiles of costs, and of latencies, are taken
            over: "window", the last ones, or "fixed", the first ones of training, from when there
            are enough of them.
        cost_window: how many trajectories these are.
        latency_coe: weight of the latency reward, in [0, 1]; with ``cost_coe`` at most 1.
        normalization: of answers, one of
            :data:`~router_r1.reward.normalization.NORMALIZATIONS`.
        function: ``module:name`` of a class that gives the outcome in place of ``reward_metric``,
            see :data:`~router_r1.reward.outcome_function.OutcomeFunction`; null for none.
        function_args: keyword arguments that it is made with, once a run.
    """

    penalties: FormatPenalties = field(default_factory=FormatPenalties)
    form: str = field(default="hierarchical", metadata=one_of(*REWARD_FORMS))
    cost_unit: str = field(default="completion", metadata=one_of(*COST_UNITS))
    cost_reference: str = field(default="window", metadata=one_of(*COST_REFERENCES))
    cost_window: int = field(default=1000, metadata=POSITIVE)
    latency_coe: float = field(default=0.0, metadata=SHARE)
    normalization: str = field(default="paper", metadata=one_of(*NORMALIZATIONS))
    function: str | None = None
    function_args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.function is not None:
            check_name(self.function)
        elif self.function_args:
            raise ConfigError(
                f"reward.function_args={self.function_args} are for reward.function, which is null"
            )

    def find_function(self) -> type | None:
        """The class that ``function`` names, see :func:`find_outcome_class`; None for none."""
        if self.function is None:
            return None
        return find_outcome_class(self.function, self.function_args)


class RoutingRewardFunction:
    """Implements :class:`verl.interfaces.RewardFunction`.

    Args:
        reward_metric: "em" or "f1": what training optimises, without a function of the user's own.
        cost_coe: weight of the cost, for trajectories that have none of their own.
    """

    def __init__(
        self, config: RewardConfig, pool: PoolConfig, reward_metric: str, cost_coe: float
    ) -> None:
        self._config, self._pool = config, pool
        self._reward_metric, self._cost_coe = reward_metric, cost_coe
        reference = config.cost_window, config.cost_reference == "fixed"
        self._normalizer = CostNormalizer(*reference)
        self._latencies = CostNormalizer(*reference) if config.latency_coe > 0 else None
        own = config.find_function()
        self._function = own(**config.function_args) if own is not None else None

    def __call__(self, batch: DataProto, validate: bool) -> RewardOutput:
        """Scores trajectories; reads the columns ``record`` and ``ground_truth``."""
        records: list[RoutedTrajectory] = batch.non_tensor_batch["record"].tolist()
        golds = [list(gold) for gold in batch.non_tensor_batch["ground_truth"]]
        judged = None if self._function is None else judge(self._function, records, golds)
        outcomes = [None] * len(records) if judged is None else judged.outcomes
        rows = [
            self._score_one(record, gold, outcome, validate)
            for record, gold, outcome in zip(records, golds, outcomes, strict=True)
        ]
        columns = {
            name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]
        }
        scores = columns.pop("reward")
        if judged is None:
            return RewardOutput(scores, columns)
        columns["step_reward"] = np.array([sum(of_one) for of_one in judged.steps])
        return RewardOutput(scores + columns["step_reward"], columns, judged.steps)

    def _score_one(
        self, record: RoutedTrajectory, gold: list[str], judged: float | None, validate: bool
    ) -> dict[str, float]:
        answer = record.answer or ""  # which is never right
        scores = {
            "em": exact_match(answer, gold, self._config.normalization),
            "f1": f1_score(answer, gold, self._config.normalization),
        }
        all_failed = record.routed_calls == 0 and record.failed_calls > 0

        def thrift(normalizer: CostNormalizer, value: float) -> float:
            if all_failed:
                return 0.0
            return normalizer.peek(value) if validate else normalizer(value)

        weighed = cost_in(self._config.cost_unit, record.cost, record.dollars)
        cost_reward = thrift(self._normalizer, weighed)
        latency = {}
        if self._latencies is not None:
            seconds = record.latency_s
            latency = {"latency_reward": thrift(self._latencies, seconds), "latency_s": seconds}
        names = record.offered or self._pool
        format_score = format_reward(
            record.response_text, names, self._config.penalties, record.tags
        )
        outcome = scores[self._reward_metric] if judged is None else judged
        own = record.cost_coe
        return {
            "reward": combine(
                format_score,
                outcome,
                cost_reward,
                self._cost_coe if own is None else own,
                latency.get("latency_reward", 0.0),
                self._config.latency_coe,
                self._config.form,
            ),
            **({} if own is None else {"cost_coe": own}),
            "metric": outcome,
            **scores,
            "format": format_score,
            "format_failure": format_score < 0,
            "cost_reward": cost_reward,
            **latency,
            "cost": record.cost,
            "dollars": record.dollars,
            "route_cnt": record.routed_calls,
            "failed_calls": record.failed_calls,
            "num_turns": len(record.turns),
            "valid_actions": record.valid_actions,
            "finished": record.finished,
            **self._calls_by_llm(record.calls),
        }

    def _calls_by_llm(self, calls: Sequence[Call]) -> dict[str, float]:
        """``calls/{llm}``: how often each LLM of the pool was asked."""
        results = (call.result for call in calls)
        asked = Counter(r.llm for r in results if r.outcome is not Outcome.UNKNOWN_LLM)
        return {f"calls/{llm.name}": asked[llm.name] for llm in self._pool.llms}

    @property
    def scales(self) -> RewardScales:
        """Of cost and latency."""
        latency = None if self._latencies is None else self._latencies.scale
        return RewardScales(self._normalizer.scale, latency)

    def state_dict(self) -> dict[str, Any]:
        """The costs, and the latencies if they weigh, that the percentiles are taken over."""
        state = {"normalizer": self._normalizer.state_dict()}
        if self._latencies is not None:
            state["latency_normalizer"] = self._latencies.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores them; latencies that a run did not weigh begin anew."""
        self._normalizer.load_state_dict(state["normalizer"])
        if self._latencies is not None and "latency_normalizer" in state:
            self._latencies.load_state_dict(state["latency_normalizer"])
