"""The cost reward: what its scale is taken over, when it stays, and that a checkpoint keeps it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_r1.pool.config import PoolConfig
from router_r1.reward import CostNormalizer, CostScale
from router_r1.reward.manager import RewardConfig, RoutingRewardFunction
from tests.routed import call, routed
from verl.config.validation import ConfigError

COSTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=30)


def test_a_scale_is_linear_in_the_root_of_the_cost() -> None:
    scale = CostScale(low=1.0, high=11.0)
    # roots 0, 1, 3, 6, 11 and 20
    rewards = [scale.reward(cost) for cost in (0.0, 1.0, 9.0, 36.0, 121.0, 400.0)]
    assert rewards == pytest.approx([1.0, 1.0, 0.8, 0.5, 0.0, 0.0])
    assert CostScale(3.0, 3.0).reward(100.0) == 0.5
    with pytest.raises(ValueError, match="finite"):
        scale.reward(math.nan)


@given(COSTS, st.integers(1, 12))
def test_percentiles_are_numpys_over_the_last_costs_to_the_bit(
    costs: list[float], window: int
) -> None:
    normalize = CostNormalizer(window)
    for count, cost in enumerate(costs, start=1):
        roots = [math.sqrt(c) for c in costs[max(0, count - window) : count]]
        low, high = np.percentile(roots, (5, 95))
        assert CostScale.over(roots) == CostScale(low, high)
        expected = CostScale(low, high).reward(cost)
        assert normalize.peek(cost) == expected
        assert normalize(cost) == expected


@given(COSTS)
def test_until_it_is_fixed_the_scale_is_that_of_the_window(costs: list[float]) -> None:
    window, fixed = CostNormalizer(30), CostNormalizer(30, fixed=True)
    for cost in costs:
        assert fixed.scale is None
        assert fixed.peek(cost) == window.peek(cost)
        assert fixed(cost) == window(cost)


def test_once_there_are_enough_costs_the_scale_stays() -> None:
    window, fixed = CostNormalizer(100), CostNormalizer(100, fixed=True)
    for root in range(101):  # one more than the first hundred: the window drops the first
        window(root**2)
        fixed(root**2)
    assert fixed.scale == CostScale.over(range(100))
    assert fixed(50.0**2) == pytest.approx(1 - (50 - 4.95) / 89.1)
    state = fixed.state_dict()
    before = [fixed.peek(root**2) for root in range(0, 110, 10)]
    for cost in (4.0, 9.0) * 100:  # the policy has become cheap
        window(cost)
        fixed(cost)
    assert [fixed(root**2) for root in range(0, 110, 10)] == before
    assert fixed.state_dict() == state
    assert window(9.0) == 0.0, "the same route counts as dear by now"
    assert fixed(9.0) == 1.0


@pytest.mark.parametrize("seen", [40, 100, 130])
def test_a_checkpoint_keeps_the_scale_fixed_or_not(seen: int) -> None:
    before = CostNormalizer(100, fixed=True)
    for root in range(seen):
        before(float(root**2))
    after = CostNormalizer(100, fixed=True)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert after.scale == before.scale
    assert (after.scale is None) == (seen < 100)
    for root in range(0, 200, 7):
        assert after(float(root**2)) == before(float(root**2))


def test_a_state_that_is_loaded_takes_the_place_of_a_fixed_scale() -> None:
    full, young = CostNormalizer(3, fixed=True), CostNormalizer(3, fixed=True)
    for cost in (1.0, 2.0, 3.0):
        full(cost)
    young(7.0)
    full.load_state_dict(young.state_dict())
    assert full.scale is None
    assert full(9.0) == young(9.0)


def score(function: RoutingRewardFunction, costs: list[float], validate: bool) -> Any:
    protocol = pytest.importorskip("verl.protocol", exc_type=ImportError)
    records = [
        routed(
            ["<think>x</think><search>Draco: y</search>", "<think>x</think><answer>a</answer>"],
            [call("Draco", cost=cost)],
        )
        for cost in costs
    ]
    batch = protocol.DataProto.from_dict(
        non_tensors={"record": records, "ground_truth": [["a"]] * len(records)}
    )
    return function(batch, validate=validate)


def test_validation_neither_fixes_nor_moves_the_scale(embedded_pool: PoolConfig) -> None:
    config = RewardConfig(cost_reference="fixed", cost_window=4)
    function = RoutingRewardFunction(config, embedded_pool, "em", 0.5)
    for costs, scale in (
        ([1.0, 4.0, 9.0], None),
        ([16.0, 25.0], CostScale.over([1.0, 2.0, 3.0, 4.0])),
    ):
        score(function, costs, validate=False)
        assert function.scales.cost == scale
        state = function.state_dict()
        score(function, [100.0, 0.0, 400.0, 1.0, 1.0], validate=True)
        assert function.state_dict() == state
        assert function.scales.cost == scale
    rewards = [score(function, [cost], validate=v) for cost in (4.0, 90.0) for v in (True, False)]
    given = [float(output.metrics["cost_reward"][0]) for output in rewards]
    assert given[0] == given[1] == pytest.approx(1 - (2 - 1.15) / 2.7)
    assert given[2:] == [0.0, 0.0]


def test_the_window_is_the_default_and_other_references_are_refused() -> None:
    assert RewardConfig().cost_reference == "window"
    with pytest.raises(ConfigError, match=r"reward\.cost_reference='median'.*window, fixed"):
        RewardConfig(cost_reference="median")
