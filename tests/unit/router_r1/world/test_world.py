from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_r1.pool.config import PoolConfig
from router_r1.reward import CostNormalizer, exact_match
from router_r1.world.config import WorldConfig
from router_r1.world.dataset import write_world
from router_r1.world.knowledge import DOMAINS, SPLITS, Question
from router_r1.world.oracle import Oracle
from router_r1.world.simulated_llm import UNKNOWN_REPLY, World
from verl.config.validation import ConfigError
from verl.utils.dataset import DataError, PromptDataset, ground_truth


@pytest.fixture(scope="module")
def oracle(world: World, embedded_pool: PoolConfig) -> Oracle:
    return Oracle(world, embedded_pool.prices(), world.knowledge.questions("validation"))


def test_same_seed_same_world(world: World) -> None:
    again = World(WorldConfig())
    assert again.knowledge.facts == world.knowledge.facts
    assert again.knowledge.questions("test") == world.knowledge.questions("test")
    other = World(WorldConfig(seed=8))
    assert other.knowledge.facts != world.knowledge.facts


def test_splits_share_no_entity(world: World) -> None:
    knowledge = world.knowledge
    names = {
        split: {
            *(name for group in knowledge.subjects[split].values() for name in group),
            *knowledge.persons[split],
        }
        for split in SPLITS
    }
    assert names["train"].isdisjoint(names["validation"])
    assert names["train"].isdisjoint(names["test"])
    assert names["validation"].isdisjoint(names["test"])
    for split in SPLITS:
        for question in knowledge.questions(split):
            for hop in question.hops:
                assert {hop.subject, hop.answer} <= names[split]


def test_questions_do_not_repeat_and_are_parsed_back(world: World) -> None:
    questions = world.knowledge.questions("validation")
    assert len({q.text for q in questions}) == len(questions) == 400
    assert {d for q in questions for d in q.domains} == set(DOMAINS)
    for question in questions:
        assert world.knowledge.parse(question.text) == question.hops
        for hop in question.hops:
            assert world.knowledge.parse(hop.query) == (hop,)


def test_a_reply_is_a_function_of_seed_llm_and_query(world: World) -> None:
    query = world.knowledge.questions("test")[0].hops[0].query
    assert World(WorldConfig()).reply("Atlas", query) == world.reply("Atlas", query)
    replies = {llm: world.reply(llm, query) for llm in world.llms}
    assert len({reply.completion_tokens for reply in replies.values()}) > 2
    assert world.reply("Atlas", "what is love?").text == UNKNOWN_REPLY
    with pytest.raises(KeyError):
        world.reply("Nobody", query)


def test_llms_are_as_reliable_as_they_claim(world: World) -> None:
    """5 sigma of a binomial over every train fact of a domain."""
    knowledge = world.knowledge
    hops = [knowledge.hop(r, s) for r, s in knowledge.facts if knowledge.split_of[s] == "train"]
    for llm in world.llms.values():
        for domain in DOMAINS:
            asked = [hop for hop in hops if hop.domain == domain]
            right = sum(
                world.reply(llm.name, h.query).text.endswith(f" is {h.answer}.") for h in asked
            )
            p = llm.reliability[domain]
            sigma = (p * (1 - p) / len(asked)) ** 0.5
            assert abs(right / len(asked) - p) <= 5 * sigma, (llm.name, domain)


def test_the_world_leaves_something_to_learn(oracle: Oracle) -> None:
    best, frugal = oracle.oracle(0.0), oracle.oracle(0.9)
    assert oracle.best_single()[1].em <= 0.7 * best.em
    assert oracle.random_routing().em <= 0.5 * best.em
    assert frugal.em >= 0.95 * best.em
    assert frugal.cost <= 0.5 * best.cost
    costs = [oracle.oracle(alpha).cost for alpha in (0.0, 0.3, 0.6, 0.9)]
    assert costs == sorted(costs, reverse=True)


def test_two_hops_need_two_llms(world: World, oracle: Oracle) -> None:
    for question in world.knowledge.questions("validation"):
        if len(question.hops) == 2:
            for cost_coe in (0.0, 0.9):
                assert len(set(oracle.best_route(question.domains, cost_coe))) == 2


def play(
    world: World, pool: PoolConfig, questions: list[Question], route: Any
) -> tuple[float, float]:
    """EM and cost of really asking ``route(question, hop index)``."""
    prices = pool.prices()
    ems, costs = [], []
    for question in questions:
        subject, cost = question.hops[0].subject, 0.0
        for i, hop in enumerate(question.hops):
            llm = route(question, i)
            reply = world.reply(llm, f"the {hop.relation} of {subject}")
            cost += reply.completion_tokens * prices[llm]
            subject = reply.text.removesuffix(".").rsplit(" is ", 1)[-1]
        ems.append(exact_match(subject, [question.answer]))
        costs.append(cost)
    return float(np.mean(ems)), float(np.mean(costs))


@pytest.mark.parametrize("cost_coe", [0.0, 0.9])
def test_expectations_are_what_playing_gives(
    world: World, embedded_pool: PoolConfig, oracle: Oracle, cost_coe: float
) -> None:
    questions = world.knowledge.questions("validation")
    expected = oracle.oracle(cost_coe)
    em, cost = play(
        world,
        embedded_pool,
        questions,
        lambda q, i: oracle.best_route(q.domains, cost_coe)[i],
    )
    sigma = (expected.em * (1 - expected.em) / len(questions)) ** 0.5
    assert abs(em - expected.em) <= 4 * sigma
    assert cost == pytest.approx(expected.cost, rel=0.03)


def test_random_routing_is_what_playing_gives(
    world: World, embedded_pool: PoolConfig, oracle: Oracle
) -> None:
    rng = random.Random(0)
    names = sorted(world.llms)
    questions = world.knowledge.questions("validation") * 5
    em, cost = play(world, embedded_pool, questions, lambda *_: rng.choice(names))
    expected = oracle.random_routing()
    assert em == pytest.approx(expected.em, abs=0.05)
    assert cost == pytest.approx(expected.cost, rel=0.05)


def test_the_oracle_weighs_cost_as_the_reward_does(oracle: Oracle) -> None:
    """At cost_coe 1 a dear specialist never beats a cheap one that is nearly as good."""
    normalizer = CostNormalizer()
    for cost in (0.7, 5.7, 62.4):
        normalizer(cost)
    assert normalizer.peek(5.7) > normalizer.peek(62.4)
    assert oracle.oracle(0.9).cost < oracle.oracle(0.0).cost


def test_a_split_too_small_for_its_questions_is_refused() -> None:
    tiny = World(WorldConfig(eval_entities=2, validation_questions=300))
    with pytest.raises(ConfigError, match=r"eval_entities"):
        tiny.knowledge.questions("validation")
    with pytest.raises(ConfigError, match="train, validation, test"):
        tiny.knowledge.questions("dev")


def test_world_files_have_the_rows_that_training_reads(
    embedded_pool: PoolConfig, tokenizer: Any, tmp_path: Path
) -> None:
    small = WorldConfig(train_questions=50, validation_questions=20, test_questions=20)
    files = write_world(World(small), embedded_pool, tmp_path)
    data = PromptDataset([str(files["train"])], "prompt")
    assert len(data) == 50
    row = data.rows[0]
    assert row["ability"] == "fact-reasoning"
    assert row["data_source"] in ("world_onehop", "world_twohop")
    assert row["reward_model"]["style"] == "rule"
    assert row["extra_info"]["split"] == "train"
    assert ground_truth(row)[0] not in row["prompt"][0]["content"]
    assert row["prompt"][0]["content"].rstrip().endswith("?")
    data.check_lengths(tokenizer, 256)
    with pytest.raises(DataError, match="max_start_length=20"):
        data.check_lengths(tokenizer, 20)
