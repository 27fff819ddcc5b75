"""What cost counts for a question: read from the configuration, drawn for a row, told in a prompt,
kept in its trajectory, weighed in its reward."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from router_r1.llm_agent.prompt import STYLES, build_prompt_template, cost_tenths, fill
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.preference import CostPreference, own_weight
from router_r1.reward.manager import RewardConfig, RoutingRewardFunction
from router_r1.task import RoutingTask
from tests.routed import call, routed
from verl.config.validation import ConfigError
from verl.protocol import DataProto
from verl.trainer.launch import load_task_config
from verl.utils.rows import RowError

RECIPE = "recipe=quickstart_tradeoff"


def row(index: int, **info: Any) -> dict[str, Any]:
    return {
        "reward_model": {"ground_truth": {"target": ["x"]}},
        "extra_info": {"index": index, "question": f"Who is {index}?", **info},
    }


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        (0.3, (0.3,)),
        (0, (0.0,)),
        ([0.9, 0, 0.3, 0.3], (0.0, 0.3, 0.9)),
        ("0.1..0.4", (0.1, 0.2, 0.3, 0.4)),
        ("0.12..0.31", (0.12, 0.2, 0.3, 0.31)),
    ],
)
def test_a_setting_is_one_weight_a_list_or_a_range(setting: Any, values: tuple[float, ...]) -> None:
    preference = CostPreference.read(setting)
    assert preference.values == values
    assert preference.least == values[0]
    assert preference.single == (values[0] if len(values) == 1 else None)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (1.1, "must be a number in"),
        ("much", "got 'much'"),
        (True, "got True"),
        ([], "an empty list"),
        ([0, 2], r"got \[0, 2\]"),
        ("0.1..", "a range as 0..0.9; got '0.1..'"),
        ("0.1..0.2..0.3", "a range as"),
        ("0..2", "a range as"),
        ("0.5..0.5", "begins with its lower end"),
    ],
)
def test_any_other_setting_is_refused(setting: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CostPreference.read(setting)


def test_a_run_that_draws_weights_must_tell_the_policy() -> None:
    with pytest.raises(ConfigError, match="set state_cost_coe=true"):
        load_task_config(["recipe=quickstart_tiers", "cost_coe=[0,0.5]"])
    with pytest.raises(ConfigError, match="set a prompt_style"):
        load_task_config(["recipe=paper_qwen", "state_cost_coe=true", "prompt_style=null"])
    told = ["state_cost_coe=true", "cost_coe=0..1"]
    _, config = load_task_config(["recipe=paper_qwen", *told])
    assert config.cost_preference.values[-1] == 1.0  # type: ignore[attr-defined]


def test_rows_draw_all_weights_alike_and_the_same_each_time() -> None:
    preference = CostPreference.read([0, 0.3, 0.6, 0.9])
    drawn = [preference.of_row(row(index)) for index in range(4000)]
    assert drawn == [preference.of_row(row(index)) for index in range(4000)]
    for count in Counter(drawn).values():
        assert count == pytest.approx(1000, abs=120)


def test_a_row_may_bring_its_own_weight() -> None:
    preference = CostPreference.read([0, 0.3])
    assert preference.of_row(row(1, cost_coe=0.45)) == 0.45
    assert own_weight(row(1)) is None
    for wrong in (1.5, "0.3", True):
        with pytest.raises(RowError, match=r"extra_info\.cost_coe must be a number in \[0, 1\]"):
            own_weight(row(1, cost_coe=wrong))


@pytest.mark.parametrize("style", STYLES)
def test_a_prompt_states_the_weight_or_is_what_it_was(
    style: str, embedded_pool: PoolConfig
) -> None:
    stated = build_prompt_template(style, embedded_pool, state_cost_coe=True)
    silent = build_prompt_template(style, embedded_pool)
    text = fill(stated, "who {cost_coe}?", 0.3)
    said = "Cost counts 3 of 10.\n" if style == "compact" else "nothing else counts): 0.3\n\n"
    assert f"{said}Question: who {{cost_coe}}?" in text
    assert text.replace(said, "").startswith(fill(silent, "")[:100])
    assert "ost counts" not in silent
    assert "{cost_coe}" not in fill(stated, "who?", 1.0)


@pytest.mark.parametrize(
    ("weight", "tenths"), [(0.0, 0), (0.04, 0), (0.05, 1), (0.3, 3), (0.45, 5), (1.0, 10)]
)
def test_the_compact_style_says_the_nearest_tenth(weight: float, tenths: int) -> None:
    assert cost_tenths(weight) == tenths


def test_a_cold_start_leans_only_where_prompts_say_more_than_the_question() -> None:
    with pytest.raises(ConfigError, match=r"lean=0\.5 is for prompts that state what cost counts"):
        load_task_config(["recipe=quickstart", "cold_start.lean=0.5"])
    with pytest.raises(ConfigError, match=r"cold_start.lean must be in \[0, 10\], got -1"):
        load_task_config([RECIPE, "cold_start.lean=-1"])


def task(*overrides: str) -> RoutingTask:
    task_class, config = load_task_config([RECIPE, *overrides])
    made = task_class(config)
    assert isinstance(made, RoutingTask)
    return made


def test_prompts_of_a_run_state_what_its_rows_draw() -> None:
    made = task()
    preference = made.config.cost_preference
    said = set()
    for index in range(40):
        (message,) = made.messages(row(index))
        tenths = round(10 * preference.of_row(row(index)))
        assert f"Cost counts {tenths} of 10." in message["content"]
        said.add(tenths)
    assert said == {0, 3, 6, 9}
    (message,) = task("cost_coe=0.6").messages(row(1))
    assert "Cost counts 6 of 10." in message["content"], "as an evaluation asks for one"


def test_a_row_without_a_question_cannot_be_told() -> None:
    bare = {**row(1), "extra_info": {"index": 1}}
    with pytest.raises(RowError, match=r"extra_info\.question must hold the question"):
        task().check_row(bare)
    untold = task("cost_coe=0.3", "state_cost_coe=false", "cold_start.lean=0")
    untold.check_row(bare)
    with pytest.raises(RowError, match=r"extra_info\.cost_coe is 0.4, but this run tells"):
        untold.check_row(row(1, cost_coe=0.4))
    hurried = task("cost_coe=[0,0.3]", "reward.latency_coe=0.2")
    hurried.check_row(row(1, cost_coe=0.8))
    with pytest.raises(RowError, match=r"extra_info\.cost_coe is 0.9, and with the weight of"):
        hurried.check_row(row(1, cost_coe=0.9))


SAID = "<think>a</think><search> Atlas: the x</search>"


@pytest.mark.parametrize(("own", "weight"), [(0.25, 0.25), (None, 0.5)])
def test_a_trajectory_is_rewarded_by_its_own_weight(
    embedded_pool: PoolConfig, own: float | None, weight: float
) -> None:
    config = RewardConfig(cost_reference="fixed", cost_window=2)
    function = RoutingRewardFunction(config, embedded_pool, "em", 0.5)
    function.load_state_dict({"normalizer": {"roots": [0.0, 10.0], "window": 2}})
    told = routed((SAID, "<think>b</think><answer>x</answer>"), [call(cost=25.0)])
    batch = DataProto.from_dict(
        non_tensors={"record": [replace(told, cost_coe=own)], "ground_truth": [["x"]]}
    )
    scored = function(batch, validate=True)
    cheap = scored.metrics["cost_reward"]
    assert 0.4 < cheap < 0.6
    assert scored.scores == pytest.approx((1 - weight) + weight * cheap)
    assert list(scored.metrics.get("cost_coe", [])) == ([] if own is None else [own])


@pytest.mark.parametrize("own", [0.45, None])
def test_the_weight_is_kept_with_the_trajectory(own: float | None) -> None:
    told = replace(routed(("<think>b</think><answer>x</answer>",)), cost_coe=own)
    assert RoutedTrajectory.from_json(told.to_json()) == told
    old = {name: value for name, value in told.to_json().items() if name != "cost_coe"}
    assert RoutedTrajectory.from_json(old).cost_coe is None
