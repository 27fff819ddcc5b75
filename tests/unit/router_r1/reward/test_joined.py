"""How outcome, cost and latency join, and what a reward that weighs latency or prompts keeps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.reward import CostScale, combine
from router_r1.reward.cost import RewardScales
from router_r1.reward.joined import REWARD_FORMS
from router_r1.reward.manager import RewardConfig, RoutingRewardFunction
from tests.routed import call, routed
from verl.config.validation import ConfigError
from verl.trainer.launch import load_task_config

SHARE = st.floats(0, 1)


@pytest.mark.parametrize(
    ("form", "outcome", "reward"),
    [
        # c = 0.5 at 0.4, l = 0.75 at 0.2: 0.4 s + 0.2 + 0.15, and s (1 - 0.2 - 0.05)
        ("hierarchical", 1.0, 0.75),
        ("multiplicative", 1.0, 0.75),
        ("hierarchical", 0.5, 0.55),
        ("multiplicative", 0.5, 0.375),
        ("hierarchical", 0.0, 0.0),
        ("multiplicative", 0.0, 0.0),
    ],
)
def test_the_forms_by_hand(form: str, outcome: float, reward: float) -> None:
    assert combine(0.0, outcome, 0.5, 0.4, 0.75, 0.2, form) == pytest.approx(reward)
    assert combine(-1.0, outcome, 0.5, 0.4, 0.75, 0.2, form) == -1.0


@given(outcome=SHARE, c=SHARE, slow=SHARE, alpha=SHARE, rest=SHARE)
def test_the_forms_agree_on_a_whole_answer_and_the_product_never_pays_more_than_it(
    outcome: float, c: float, slow: float, alpha: float, rest: float
) -> None:
    latency_coe = rest * (1 - alpha)
    whole = [combine(0.0, 1.0, c, alpha, slow, latency_coe, form) for form in REWARD_FORMS]
    assert whole[0] == pytest.approx(whole[1])
    product = combine(0.0, outcome, c, alpha, slow, latency_coe, "multiplicative")
    assert product == pytest.approx(outcome * whole[0])
    assert -1e-9 <= product <= outcome + 1e-9
    assert combine(0.0, outcome, c, alpha) == combine(0.0, outcome, c, alpha, slow, 0.0)


def answered(cost: float, dollars: float, *seconds: float, reply: str | None = "x") -> Any:
    turns = ["<think>x</think><search>Draco: y</search>"] * len(seconds)
    calls = [call("Draco", reply, cost, dollars, latency_s=s) for s in seconds]
    return routed([*turns, "<think>x</think><answer>a</answer>"], calls)


def score(
    function: RoutingRewardFunction, records: list[RoutedTrajectory], validate: bool = False
) -> Any:
    protocol = pytest.importorskip("verl.protocol", exc_type=ImportError)
    return function(
        protocol.DataProto.from_dict(
            non_tensors={"record": records, "ground_truth": [["a"]] * len(records)}
        ),
        validate=validate,
    )


def reward_function(pool: PoolConfig, cost_coe: float, **settings: Any) -> RoutingRewardFunction:
    return RoutingRewardFunction(RewardConfig(**settings), pool, "em", cost_coe)


def test_dollars_count_prompts(embedded_pool: PoolConfig) -> None:
    """Costs 1 and 4 of completions; with prompts 9 and 4 millionths of a dollar."""
    records = [answered(1.0, 9e-6, 0.0), answered(4.0, 4e-6, 0.0)]
    for unit, first, second in (("completion", 1.0, 0.0), ("dollars", 0.0, 1.0)):
        function = reward_function(
            embedded_pool, 1.0, cost_unit=unit, cost_reference="fixed", cost_window=2
        )
        score(function, records)
        output = score(function, records, validate=True)
        assert output.scores.tolist() == [first, second]
        assert output.metrics["cost"].tolist() == [1.0, 4.0], "reported alike"
        scale = function.scales.cost
    assert scale is not None
    assert (scale.low, scale.high) == pytest.approx((2.05, 2.95))


def test_latency_is_rewarded_like_cost(embedded_pool: PoolConfig) -> None:
    """Two calls of 8 s take 16 s: roots 1, 2, 3, 4, of which 1.15 and 3.85 are the percentiles."""
    settings: dict[str, Any] = {"cost_reference": "fixed", "cost_window": 4, "latency_coe": 0.5}
    function = reward_function(embedded_pool, 0.25, **settings)
    score(function, [answered(1.0, 1e-6, s) for s in (1.0, 4.0)])
    assert function.scales == RewardScales()
    score(function, [answered(1.0, 1e-6, 9.0), answered(1.0, 1e-6, 8.0, 8.0)])
    assert function.scales.cost == CostScale(1.0, pytest.approx(1.352, abs=1e-3))
    assert function.scales.latency == CostScale(pytest.approx(1.15), pytest.approx(3.85))
    state = json.loads(json.dumps(function.state_dict()))
    slow = [answered(1.0, 1e-6, 6.25), answered(1.0, 1e-6, 0.0, reply=None)]
    output = score(function, slow, validate=True)
    assert function.state_dict() == state
    assert output.metrics["latency_s"].tolist() == [6.25, 0.0]
    assert output.metrics["latency_reward"].tolist() == [pytest.approx(0.5), 0.0], "calls failed"
    assert output.scores[0] == pytest.approx(0.25 + 0.25 * 1.0 + 0.5 * 0.5)
    again = reward_function(embedded_pool, 0.25, **settings)
    again.load_state_dict(state)
    assert again.scales == function.scales
    assert score(again, slow).scores.tolist() == output.scores.tolist()


def test_where_latency_weighs_nothing_nothing_is_kept_of_it(embedded_pool: PoolConfig) -> None:
    function = reward_function(embedded_pool, 0.5)
    output = score(function, [answered(1.0, 1e-6, 3.0)])
    assert not {"latency_s", "latency_reward"} & set(output.metrics)
    assert set(function.state_dict()) == {"normalizer"}
    weighing = reward_function(embedded_pool, 0.5, latency_coe=0.1)
    weighing.load_state_dict(function.state_dict())
    assert score(weighing, [answered(1.0, 1e-6, 3.0)]).metrics["latency_reward"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reward.form=additive"], r"reward\.form='additive'.*hierarchical, multiplicative"),
        (["reward.cost_unit=euro"], r"reward\.cost_unit='euro'.*completion, dollars"),
        (["reward.latency_coe=-0.1"], r"reward\.latency_coe must be in \[0, 1\], got -0\.1"),
        (["cost_coe=0.7", "reward.latency_coe=0.4"], r"cost_coe=0\.7.*latency_coe=0\.4.*exceed 1"),
        (
            ["recipe=paper_qwen", "reward.cost_unit=dollars"],
            r"no LLM of pool 'paper'.*prompt_price",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_refused(overrides: list[str], message: str) -> None:
    recipe = [] if "recipe" in overrides[0] else ["recipe=quickstart"]
    with pytest.raises(ConfigError, match=message):
        load_task_config([*recipe, *overrides])


def test_the_default_is_the_papers_reward() -> None:
    config = RewardConfig()
    settings = config.form, config.cost_unit, config.latency_coe
    assert settings == ("hierarchical", "completion", 0.0)
