"""Outcomes and step rewards of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.reward.manager import RewardConfig, RoutingRewardFunction
from router_r1.reward.outcome_function import OutcomeError, SteppedOutcomes, judge
from router_r1.task import RoutingTask
from tests.routed import call, routed
from verl.config.validation import ConfigError
from verl.protocol import DataProto
from verl.trainer.launch import load_task_config

RIGHT = "<think>x</think><answer>Rome</answer>"
CALL = "<think>x</think><search>Atlas: where?</search>"


class Share:
    """Half of the outcome for half of the words; a step reward for each call."""

    built = 0

    def __init__(self, scale: float = 1.0, steps: bool = False) -> None:
        type(self).built += 1
        self.scale, self.steps = scale, steps

    def __call__(
        self, trajectories: Sequence[RoutedTrajectory], golden_answers: Sequence[list[str]]
    ) -> Any:
        outcomes = [
            self.scale * len({*(t.answer or "").split()} & {*gold[0].split()}) / 2
            for t, gold in zip(trajectories, golden_answers, strict=True)
        ]
        if not self.steps:
            return outcomes
        return SteppedOutcomes(
            outcomes, [[0.25 * bool(u.call) for u in t.turns] for t in trajectories]
        )


def reward(pool: PoolConfig, **arguments: Any) -> RoutingRewardFunction:
    config = RewardConfig(function=f"{__name__}:Share", function_args=arguments)
    return RoutingRewardFunction(config, pool, "em", cost_coe=0.5)


def batch(*records: RoutedTrajectory, gold: str = "Rome Italy") -> DataProto:
    columns = {"record": list(records), "ground_truth": [np.array([gold])] * len(records)}
    return DataProto.from_dict(non_tensors=columns)


def test_a_function_of_ones_own_gives_the_outcome(embedded_pool: PoolConfig) -> None:
    before = Share.built
    function = reward(embedded_pool)
    records = [routed([RIGHT]), routed([CALL, RIGHT], [call()]), routed(["<answer>Rome</answer>"])]
    for _ in range(2):
        output = function(batch(*records), validate=True)
    assert Share.built == before + 1, "it is made once"
    metrics = output.metrics
    assert metrics["metric"].tolist() == [0.5] * 3
    assert metrics["em"].tolist() == [0.0] * 3, "EM and F1 are reported as ever"
    assert metrics["f1"] == pytest.approx([2 / 3] * 3)
    joined = 0.5 * 0.5 + 0.5 * metrics["cost_reward"]
    assert output.scores == pytest.approx([*joined[:2], -1.0]), "format and cost join as ever"
    assert output.steps == [(), (), ()]


def test_step_rewards_are_part_of_the_score(embedded_pool: PoolConfig) -> None:
    records = [routed([CALL, RIGHT], [call()]), routed([RIGHT])]
    plain = reward(embedded_pool)(batch(*records), validate=True)
    output = reward(embedded_pool, steps=True)(batch(*records), validate=True)
    assert output.steps == [(0.25, 0.0), (0.0,)]
    assert output.metrics["step_reward"].tolist() == [0.25, 0.0]
    assert output.scores == pytest.approx([plain.scores[0] + 0.25, plain.scores[1]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0.5], "1 outcomes for 2 trajectories"),
        ([0.5, 1.5], r"outcome 1\.5.*\[0, 1\]"),
        ([0.5, float("nan")], "nan.*finite"),
        ([0.5, None], "as numbers"),
        (None, "as numbers"),
        (SteppedOutcomes([0.5, 0.5], [[1.0]]), "step rewards of 1 trajectories"),
        (SteppedOutcomes([0.5, 0.5], [[1.0], []]), "1 step rewards for a trajectory of 2 turns"),
        (SteppedOutcomes([0.5, 0.5], [[float("inf"), 0], [0]]), "inf.*finite"),
    ],
)
def test_what_is_no_outcome_is_refused(given: Any, message: str) -> None:
    records = [routed([CALL, RIGHT], [call()]), routed([RIGHT])]
    with pytest.raises(OutcomeError, match=message):
        judge(lambda *_: given, records, [["a"], ["b"]])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reward.function=judge.py"], "module:name"),
        (["reward.function=no.such.module:Judge"], "no.such.module.*PYTHONPATH"),
        (["reward.function=math:Judge"], "no such name"),
        (["reward.function=math:pi"], "it is 3.14"),
        (["reward.function=pathlib:Path"], "must be callable"),
        ([f"reward.function={__name__}:Share", "reward.function_args={factor: 2}"], "'factor'"),
        (["reward.function_args={scale: 2}"], "reward.function, which is null"),
    ],
)
def test_a_function_that_is_not_there_ends_the_run_at_once(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        RoutingTask(load_task_config(["recipe=quickstart", *overrides])[1])
