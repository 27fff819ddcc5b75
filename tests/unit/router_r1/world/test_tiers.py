"""The pool of four price tiers: what its LLMs can do, and where the oracle's best routes lie."""

from __future__ import annotations

import math
import random
import re
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest

from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.reward import CostScale
from router_r1.reward.cost import RewardScales
from router_r1.world.cold_start.policy import world_tokenizer
from router_r1.world.cold_start.setting import Setting
from router_r1.world.cold_start.traces import TraceDataset
from router_r1.world.config import ColdStartConfig, WorldConfig
from router_r1.world.knowledge import DOMAINS
from router_r1.world.oracle import Oracle, Weighing
from router_r1.world.simulated_llm import World
from verl.config.validation import ConfigError
from verl.trainer.launch import load_task_config

COST_COES = (0.0, 0.3, 0.6, 0.9)
TIERS = (("Grus", "Hyades"), ("Indus", "Janus"), ("Kepler", "Lyra"), ("Mensa", "Norma"))


@pytest.fixture(scope="module")
def pool() -> PoolConfig:
    return load_pool("embedded_tiers")


@pytest.fixture(scope="module")
def tiers(pool: PoolConfig) -> World:
    return World(WorldConfig(), pool.simulated_names)


@pytest.fixture(scope="module")
def oracle(tiers: World, pool: PoolConfig) -> Oracle:
    return Oracle(tiers, pool.prices(), tiers.knowledge.questions("validation"))


def test_a_tier_is_two_llms_that_share_the_domains_and_differ_from_other_tiers(
    tiers: World, pool: PoolConfig
) -> None:
    assert tuple(tiers.llms) == tuple(name for tier in TIERS for name in tier)
    prices = pool.prices()
    rows = []
    for first, second in TIERS:
        a, b = tiers.llms[first], tiers.llms[second]
        knows = [{d for d in DOMAINS if llm.reliability[d] > 0.5} for llm in (a, b)]
        assert knows == [{"film", "music"}, {"sport", "science"}]
        cost = a.mean_completion_tokens() * prices[first]
        assert cost == b.mean_completion_tokens() * prices[second]
        rows.append((max(a.reliability.values()), cost, sum(a.latency_s) / 2))
    for better, cheaper in pairwise(rows):
        assert all(a > b for a, b in zip(better, cheaper, strict=True))
    assert [cost for _, cost, _ in rows] == pytest.approx([80.6, 38.0, 17.16, 0.7])


def test_random_and_the_best_single_llm_leave_something_to_learn(oracle: Oracle) -> None:
    best = oracle.oracle(0.0).em
    assert oracle.random_routing().em <= 0.5 * best
    assert oracle.best_single()[1].em <= 0.7 * best


def test_each_cost_coe_has_a_tier_of_its_own(oracle: Oracle) -> None:
    for cost_coe, (first, second) in zip(COST_COES, TIERS, strict=True):
        assert oracle.best_route(("film",), cost_coe) == (first,)
        assert oracle.best_route(("science",), cost_coe) == (second,)
        assert oracle.best_route(("film", "science"), cost_coe) == (first, second)
        assert oracle.best_route(("sport", "music"), cost_coe) == (second, first)
    expected = [oracle.oracle(cost_coe) for cost_coe in COST_COES]
    assert [e.em for e in expected] == pytest.approx([0.972, 0.931, 0.811, 0.579], abs=0.001)
    assert [e.cost for e in expected] == pytest.approx([113.6, 53.6, 24.2, 0.99], abs=0.1)


def test_the_best_tier_is_best_by_a_margin(tiers: World, pool: PoolConfig, oracle: Oracle) -> None:
    """0.03 of the reward: near what 400 questions can tell apart, and far above rounding."""
    share = sum(len(q.hops) == 2 for q in tiers.knowledge.questions("validation")) / 400
    for best, cost_coe in enumerate(COST_COES):
        rewards = []
        for name, _ in TIERS:
            llm = tiers.llms[name]
            right = max(llm.reliability.values())
            cost = llm.mean_completion_tokens() * pool.prices()[name]
            one, two = (
                right**hops * (1 - cost_coe + cost_coe * oracle.scale.reward(hops * cost))
                for hops in (1, 2)
            )
            rewards.append((1 - share) * one + share * two)
        others = [reward for tier, reward in enumerate(rewards) if tier != best]
        assert rewards[best] >= max(others) + 0.03, (cost_coe, rewards)


def test_the_first_trajectories_of_a_uniform_router_give_the_oracles_routes(
    tiers: World, pool: PoolConfig, oracle: Oracle
) -> None:
    """What `cost_reference=fixed` sees of an untrained policy, ten times over."""
    prices, names = pool.prices(), sorted(tiers.llms)
    questions = tiers.knowledge.questions("validation")
    rng = random.Random(0)
    for _ in range(10):
        roots = []
        for question in rng.choices(questions, k=512):
            asked = [(rng.choice(names), hop.query) for hop in question.hops]
            costs = [tiers.reply(llm, q).completion_tokens * prices[llm] for llm, q in asked]
            roots.append(math.sqrt(sum(costs)))
        scale = CostScale.over(roots)
        assert scale.low == pytest.approx(oracle.scale.low, abs=0.2)
        assert scale.high == pytest.approx(oracle.scale.high, abs=1.0)
        seen = Oracle(tiers, prices, questions, Weighing(RewardScales(scale)))
        for cost_coe in COST_COES:
            assert seen.oracle(cost_coe) == oracle.oracle(cost_coe)


def test_llms_reply_alike_whichever_others_there_are(world: World) -> None:
    query = world.knowledge.questions("test")[0].hops[0].query
    alone = World(WorldConfig(), ["Kepler", "Atlas"])
    assert list(alone.llms) == ["Kepler", "Atlas"]
    assert alone.reply("Atlas", query) == world.reply("Atlas", query)
    with pytest.raises(KeyError):
        alone.reply("Draco", query)


def test_names_that_no_simulated_llm_has_are_refused_before_anything_starts(
    pool: PoolConfig,
) -> None:
    renamed = replace(pool, llms=[replace(pool.llms[0], name="Nobody"), *pool.llms[1:]])
    with pytest.raises(ConfigError, match=r"no LLM named Nobody; it has Atlas, .*Norma"):
        World(WorldConfig(), renamed.simulated_names)
    with pytest.raises(ConfigError, match="no LLM named Nobody"):
        load_task_config(["recipe=quickstart_tiers", "pool.llms.0.name=Nobody"])


def test_a_member_with_a_url_of_its_own_is_none_of_the_worlds(pool: PoolConfig) -> None:
    search = replace(pool.llms[0], name="Search", model="bm25", base_url="http://127.0.0.1:9/v1")
    mixed = replace(pool, llms=[*pool.llms, search])
    assert list(World(WorldConfig(), mixed.simulated_names).llms) == [llm.name for llm in pool.llms]


def test_the_recipe_has_its_pool_and_leaves_the_quickstarts_files_alone() -> None:
    _, tiers = load_task_config(["recipe=quickstart_tiers"])
    _, plain = load_task_config(["recipe=quickstart"])
    assert (tiers.pool.name, plain.pool.name) == ("embedded_tiers", "embedded")
    assert (tiers.reward.cost_reference, plain.reward.cost_reference) == ("fixed", "window")
    for a, b in (
        (tiers.world.folder, plain.world.folder),
        (tiers.cold_start.folder, plain.cold_start.folder),
        (tiers.trainer.default_local_dir, plain.trainer.default_local_dir),
    ):
        assert Path(a) != Path(b)
    assert asdict(tiers.actor_rollout_ref.actor) == asdict(plain.actor_rollout_ref.actor)


def test_the_cold_start_names_all_llms_in_single_tokens(
    tiers: World, pool: PoolConfig, tmp_path: Path
) -> None:
    tokenizer = world_tokenizer(Setting(pool=pool))
    tokenizer.save_pretrained(tmp_path)
    for llm in pool.llms:
        assert len(tokenizer.encode(f" {llm.name}", add_special_tokens=False)) == 1
    longest = max(tiers.knowledge.questions("test"), key=lambda q: len(q.text)).text
    prompt = fill(build_prompt_template("compact", pool), longest)
    assert len(tokenizer.encode(prompt)) < 240, "data.max_start_length of the recipe is 256"
    traces = TraceDataset(str(tmp_path), Setting(pool), ColdStartConfig(copy_steps=0))
    texts = [tokenizer.decode(e["input_ids"]) for e in traces.sample_batch(0, 32)]
    called = re.findall(r"for \w+ (\w+)</think>", " ".join(map(str, texts)))
    assert set(called) == set(tiers.llms)
