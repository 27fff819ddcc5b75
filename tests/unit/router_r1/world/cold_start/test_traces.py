"""Traces that the tiny policy learns the format from: LLMs at random, and nothing held out."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from router_r1.pool.config import PoolConfig
from router_r1.reward import extract_answer, format_reward
from router_r1.tags import Tags
from router_r1.world.cold_start.policy import world_tokenizer
from router_r1.world.cold_start.setting import Setting
from router_r1.world.cold_start.traces import TraceDataset
from router_r1.world.config import ColdStartConfig
from router_r1.world.knowledge import DOMAINS
from router_r1.world.simulated_llm import World


@pytest.fixture(scope="module")
def traces(policy_folder: Path, embedded_pool: PoolConfig) -> TraceDataset:
    setting = Setting(pool=embedded_pool)
    return TraceDataset(str(policy_folder), setting, ColdStartConfig(copy_steps=10))


@pytest.fixture(scope="module")
def route_traces(
    embedded_pool: PoolConfig, tmp_path_factory: pytest.TempPathFactory
) -> TraceDataset:
    """Of a policy that calls with <route>."""
    folder = tmp_path_factory.mktemp("route")
    setting = Setting(pool=embedded_pool, route_tag="route")
    world_tokenizer(setting).save_pretrained(folder)
    return TraceDataset(str(folder), setting, ColdStartConfig(copy_steps=10))


def decode(traces: TraceDataset, example: dict[str, list[int]], mask: int) -> str:
    tokens = zip(example["input_ids"], example["loss_mask"], strict=True)
    return str(traces._tokenizer.decode([token for token, m in tokens if m == mask]))


def test_traces_route_at_random_whatever_the_domain(
    traces: TraceDataset, embedded_pool: PoolConfig
) -> None:
    """Chi-square of (domain, LLM) counts against the uniform distribution, at p = 1e-6."""
    counts: dict[str, Counter[str]] = {domain: Counter() for domain in DOMAINS}
    for step in range(20, 60):
        for example in traces.sample_batch(step, 32):
            for domain, llm in re.findall(r"for (\w+) (\w+)</think>", decode(traces, example, 1)):
                counts[domain][llm] += 1
    names = [llm.name for llm in embedded_pool.offered]
    for domain, counter in counts.items():
        expected = sum(counter.values()) / len(names)
        assert expected > 30
        chi_square = sum((counter[name] - expected) ** 2 / expected for name in names)
        assert chi_square < 37.3, (domain, counter)  # 5 degrees of freedom


def test_llms_are_drawn_equally_often_within_a_batch(
    traces: TraceDataset, embedded_pool: PoolConfig
) -> None:
    for step in (0, 20, 21):
        texts = [decode(traces, example, 1) for example in traces.sample_batch(step, 32)]
        called = Counter(re.findall(r"for \w+ (\w+)</think>", " ".join(texts)))
        assert set(called) == {llm.name for llm in embedded_pool.offered}
        assert max(called.values()) - min(called.values()) <= 1


def test_traces_are_well_formed_and_know_no_held_out_entity(
    traces: TraceDataset, world: World
) -> None:
    knowledge = world.knowledge
    held_out = {
        name
        for split in ("validation", "test")
        for name in (*knowledge.persons[split], *chain(*knowledge.subjects[split].values()))
    }
    for step in (0, 5, 20, 21):
        for example in traces.sample_batch(step, 32):
            assert len(example["input_ids"]) == len(example["loss_mask"])
            whole = traces._tokenizer.decode(example["input_ids"])
            assert not any(name in whole for name in held_out)
            own = decode(traces, example, 1)
            if "<answer>" in own:
                assert "<information>" not in own
                text = whole[whole.index("<think> for") :] if "<think> for" in whole else whole
                assert extract_answer(text) is not None


def test_a_full_trace_earns_the_format_reward(
    traces: TraceDataset, embedded_pool: PoolConfig
) -> None:
    for example in traces.sample_batch(20, 32):
        first = example["loss_mask"].index(1)
        response = traces._tokenizer.decode(example["input_ids"][first:])
        assert format_reward(response, embedded_pool) == 0.0, response


def test_traces_call_with_the_tag_that_is_set(
    traces: TraceDataset, route_traces: TraceDataset, embedded_pool: PoolConfig
) -> None:
    for example, as_search in zip(
        route_traces.sample_batch(20, 16), traces.sample_batch(20, 16), strict=True
    ):
        first = example["loss_mask"].index(1)
        response = route_traces._tokenizer.decode(example["input_ids"][first:])
        assert format_reward(response, embedded_pool, tags=Tags("route")) == 0.0
        searching = traces._tokenizer.decode(as_search["input_ids"][first:])
        assert response == searching.replace("search>", "route>")
        assert len(example["input_ids"]) == len(as_search["input_ids"]), "one token a tag"


def test_traces_are_a_function_of_seed_and_step(traces: TraceDataset) -> None:
    assert traces.sample_batch(3, 8) == traces.sample_batch(3, 8) != traces.sample_batch(4, 8)
