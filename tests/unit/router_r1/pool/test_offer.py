"""What a question is offered of the pool: drawn by its row, resolved, asked, paid and kept."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from router_r1.llm_agent.prompt import build_prompt_template
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.pool.offer import OfferConfig, OfferedNames, Offers
from router_r1.reward.format import format_reward
from router_r1.task import RoutingTask
from tests.routed import routed
from verl.config.validation import ConfigError
from verl.trainer.launch import load_task_config

NAMES = ["Ada", "Bo", "Cy", "Di", "Eli"]
OWN = ("Orion", "Pavo", "Pyxis", "Regor", "Taurus", "Vela")


@pytest.fixture(scope="module")
def pool() -> PoolConfig:
    return load_pool("embedded_profiles")


def row(index: int) -> dict[str, Any]:
    return {"extra_info": {"index": index, "question": f"Who is {index}?"}}


def offers(pool: PoolConfig, **settings: Any) -> Offers:
    return Offers(OfferConfig(**settings), pool)


def test_a_row_is_offered_the_same_each_time_and_rows_differ(pool: PoolConfig) -> None:
    drawn = offers(pool, size=3, names=NAMES)
    names = [tuple(llm.name for llm in drawn.of_row(row(i)).pool.offered) for i in range(600)]
    assert names == [
        tuple(llm.name for llm in drawn.of_row(row(i)).pool.offered) for i in range(600)
    ]
    assert len(set(names)) == 60, "every order of three of five"
    for count in Counter(name for three in names for name in three).values():
        assert count == pytest.approx(360, abs=60)


def test_names_say_nothing_about_who_goes_by_them(pool: PoolConfig) -> None:
    drawn = offers(pool, size=3, names=NAMES)
    owners = Counter(
        (llm.name, llm.model) for i in range(1500) for llm in drawn.of_row(row(i)).pool.offered
    )
    assert len(owners) == len(NAMES) * len(OWN)
    assert all(count == pytest.approx(150, abs=50) for count in owners.values())


def test_who_is_held_out_is_never_offered(pool: PoolConfig) -> None:
    drawn = offers(pool, held_out=["Pyxis", "Regor"])
    seen = {llm.name for i in range(50) for llm in drawn.of_row(row(i)).pool.offered}
    assert seen == {"Orion", "Pavo", "Taurus", "Vela"}


def test_by_tier_every_question_is_offered_one_llm_of_each() -> None:
    tiers = load_pool("embedded_tiers")
    drawn = offers(tiers, size=4, by_tier=True)
    seen, orders = Counter(), set()
    for i in range(400):
        offered = drawn.of_row(row(i)).pool.offered
        prices = [llm.completion_price for llm in offered]
        assert len(set(prices)) == 4, "the pool has two LLMs of each of four prices"
        seen.update(llm.name for llm in offered)
        orders.add(tuple(prices))
    assert len(orders) == 24
    assert len(seen) == 8
    assert all(count == pytest.approx(200, abs=50) for count in seen.values())


def test_a_name_of_a_question_means_its_llm_and_no_other_name_does(pool: PoolConfig) -> None:
    offered = offers(pool, size=2, names=NAMES).of_row(row(4))
    for llm in offered.pool.llms:
        owner = offered.owner_of(llm)
        assert owner == pool.resolve(owner.name)
        assert llm.model == owner.model
        assert offered.names.resolve(f" {llm.name.lower()} ") == owner.name
        assert offered.pool.resolve(llm.name) is llm
        assert llm.described == owner.descriptor.replace("{name}", llm.name)
    assert all(offered.pool.resolve(name) is None for name in OWN)
    assert all(offered.names.resolve(name) is None for name in OWN)


def test_prices_differ_by_question_within_their_bounds(pool: PoolConfig) -> None:
    drawn = offers(pool, price_jitter=0.5)
    prices = [llm.completion_price for i in range(200) for llm in drawn.of_row(row(i)).pool.offered]
    assert min(prices) >= 3.0 * math.exp(-0.5)
    assert max(prices) <= 3.0 * math.exp(0.5)
    assert len(set(prices)) == len(prices)
    for llm in drawn.of_row(row(0)).pool.offered:
        assert llm.prompt_price == pytest.approx(llm.completion_price / 3)
    plain = offers(pool).of_row(row(0))
    assert {llm.completion_price for llm in plain.pool.offered} == {3.0}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 7}, "has 6 LLMs to offer"),
        ({"size": 0}, "offer.size must be > 0"),
        ({"by_tier": True}, "offer.by_tier=true cuts the pool into offer.size tiers; set it"),
        ({"held_out": ["Atlas"]}, "offers no Atlas; it offers Orion"),
        ({"size": 4, "held_out": ["Orion", "Pavo", "Vela"]}, "has 3 LLMs to offer"),
        ({"names": ["Ada"]}, "holds 1 names for the 6 LLMs"),
        ({"names": ["Ada", "ada "]}, "must be distinct"),
        *(({"names": [name]}, "cannot be called") for name in ("A:b", " ", "a</search>", "a\nb")),
        ({"price_jitter": -1.0}, "offer.price_jitter must be in"),
    ],
)
def test_what_the_pool_cannot_give_is_refused(
    pool: PoolConfig, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        offers(pool, **settings)


def test_spaces_around_a_name_do_not_count() -> None:
    assert OfferedNames(((" Ada ", "Orion"),)).resolve("ada") == "Orion"


def test_an_alias_means_nothing_where_names_are_drawn(pool: PoolConfig) -> None:
    known = [replace(pool.llms[0], aliases=["Ada"]), *pool.llms[1:]]
    drawn = offers(replace(pool, llms=known), size=2, names=["Orion", "Ada"])
    for index in range(200):
        offered = drawn.of_row(row(index))
        assert {llm.name for llm in offered.pool.llms} == {"Orion", "Ada"}
        assert all(not llm.aliases for llm in offered.pool.llms)


def test_a_pool_of_the_papers_name_rules_is_refused() -> None:
    with pytest.raises(ConfigError, match="pool 'paper' is matched by 'original'"):
        offers(load_pool("paper"))


def test_the_format_rule_goes_by_the_names_of_the_question(pool: PoolConfig) -> None:
    names = OfferedNames((("Ada", "Orion"),))
    for name, score in (("Ada", 0.0), ("Orion", -1.0), ("Bo", -1.0)):
        text = f"<think>a</think><search> {name}: the x</search>"
        reply = "\n\n<information>y</information>\n\n<think>b</think><answer>y</answer>"
        assert format_reward(text + reply, names) == score
    assert format_reward(text.replace("Bo", "Orion") + reply, pool) == 0.0


def test_what_was_offered_is_kept_with_the_trajectory() -> None:
    told = routed(("<answer>x</answer>",))
    offered = replace(told, offered=OfferedNames((("Ada", "Orion"), ("Bo", "Pavo"))))
    assert offered.to_json()["offered"] == {"Ada": "Orion", "Bo": "Pavo"}
    for one in (told, offered):
        assert RoutedTrajectory.from_json(one.to_json()) == one
    old = {name: value for name, value in told.to_json().items() if name != "offered"}
    assert RoutedTrajectory.from_json(old).offered is None


def test_prompts_of_a_run_offer_what_its_rows_draw() -> None:
    task_class, config = load_task_config(["recipe=quickstart_pools"])
    made = task_class(config)
    assert isinstance(made, RoutingTask)
    drawn = made.config.offers
    assert drawn is not None
    prices = set()
    for index in range(20):
        (message,) = made.messages(row(index))
        offered = drawn.of_row(row(index)).pool.offered
        listed = ", ".join(
            f"${llm.completion_price:.1g} {llm.name} {llm.described}" for llm in offered
        )
        assert f"LLMs: {listed}.\n" in message["content"]
        prices.update(llm.completion_price for llm in offered)
    assert len(prices) == 80, "every question has prices of its own"
    with pytest.raises(ConfigError, match="set a prompt_style"):
        load_task_config(["recipe=quickstart_pools", "prompt_style=null"])
    with pytest.raises(ConfigError, match="set state_prices=true, or leave it 0"):
        load_task_config(["recipe=quickstart_pools", "state_prices=false"])


def test_prompts_state_prices_and_latencies_on_request(pool: PoolConfig) -> None:
    slow = replace(pool.llms[0], latency_s=2.04)
    some = replace(pool, llms=[slow, pool.llms[1]])
    silent, told = (
        build_prompt_template("qwen", some, state_prices=state) for state in (False, True)
    )
    assert "($3 per 1M tokens, about 2 s)\n" in told
    assert "($3 per 1M tokens)\n" in told
    assert "$" not in silent
    compact = build_prompt_template("compact", some, state_prices=True)
    assert "music Orion, $3 Pavo film" in compact
