"""What the tiny policy is taught for: prompts with a weight of cost, and LLMs drawn for each."""

from __future__ import annotations

import math
import pickle
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from router_r1.pool.loading import load_pool
from router_r1.pool.offer import OfferConfig
from router_r1.world.cold_start.policy import world_tokenizer
from router_r1.world.cold_start.setting import Setting
from router_r1.world.cold_start.traces import TraceDataset
from router_r1.world.cold_start.training import _cache_key
from router_r1.world.config import ColdStartConfig

NAMES = ["Miti", "Gegi", "Rure", "Peke"]
CALL = re.compile(r"<think>(?: at (\d+) (\w+))? for (\w+) (\w+)</think><search> (\w+): ")
KINDS = {
    "huge": {"Grus", "Hyades"},
    "large": {"Indus", "Janus"},
    "small": {"Kepler", "Lyra"},
    "tiny": {"Mensa", "Norma"},
}


def texts(setting: Setting, folder: Path, lean: float = 0.0) -> list[str]:
    """Whole traces, decoded."""
    tokenizer = world_tokenizer(setting)
    tokenizer.save_pretrained(folder)
    config = ColdStartConfig(copy_steps=0, no_reply_share=0.0, lean=lean)
    traces = TraceDataset(str(folder), setting, config)
    examples = [e for step in range(30) for e in traces.sample_batch(step, 32)]
    return [str(tokenizer.decode(example["input_ids"])) for example in examples]


def test_a_setting_survives_the_way_to_the_process_that_teaches() -> None:
    offer = OfferConfig(size=2, names=NAMES, held_out=["Orion"])
    setting = Setting(pool=load_pool("embedded_profiles"), state_cost_coe=True, offer=offer)
    assert pickle.loads(pickle.dumps(setting)) == setting


@pytest.mark.parametrize("lean", [0.0, 1.0])
def test_thoughts_repeat_what_cost_counts_and_name_a_kind_and_one_of_it(
    tmp_path: Path, lean: float
) -> None:
    setting = Setting(pool=load_pool("embedded_tiers"), state_cost_coe=True)
    kinds = Counter()
    for text in texts(setting, tmp_path, lean):
        (said,) = re.findall(r"Cost counts (\d+) of 10\.", text)
        calls = CALL.findall(text)
        assert calls
        for tenths, kind, _, thought, asked in calls:
            assert tenths == said
            assert thought == asked
            assert asked in KINDS[kind]
            kinds[int(said), kind] += 1
    if lean == 0.0:
        total = kinds.total()
        shares = [sum(kinds[said, kind] for said in range(11)) / total for kind in KINDS]
        assert shares == pytest.approx([0.25] * 4, abs=0.05)
    else:
        most = [max(KINDS, key=lambda kind: kinds[said, kind]) for said in (0, 3, 6, 9)]
        assert most == list(KINDS)


def test_an_example_offers_and_calls_llms_of_its_own(tmp_path: Path) -> None:
    offer = OfferConfig(size=2, names=NAMES, held_out=["Vela"])
    setting = Setting(pool=load_pool("embedded_profiles"), offer=offer)
    world = setting.make_world()
    orders = set()
    for text in texts(setting, tmp_path):
        (listed,) = re.findall(r"LLMs: (.*)\.\n", text)
        names = [part.split()[0] for part in listed.split(", ")]
        assert len(set(names)) == 2
        assert set(names) <= set(NAMES)
        assert not any({"sport", "science"} <= set(part.split()) for part in listed.split(", "))
        orders.add(tuple(names))
        for _, _, _, thought, asked in CALL.findall(text):
            assert thought == asked
            assert asked in names
    assert len(orders) == 12
    assert "Vela" in world.llms, "it could be asked, and is not offered"


def test_a_thought_names_the_llm_where_its_descriptor_does(tmp_path: Path) -> None:
    offer = OfferConfig(size=3, names=NAMES)
    setting = Setting(pool=load_pool("embedded_profiles"), state_cost_coe=True, offer=offer)
    assert not any("{name}" in text for text in texts(setting, tmp_path))


def test_a_cold_start_is_made_anew_where_prices_change() -> None:
    pool = load_pool("embedded_tiers")
    dearer = replace(pool, llms=[replace(pool.llms[0], completion_price=9.0), *pool.llms[1:]])
    keys = {_cache_key(ColdStartConfig(), Setting(pool=one)) for one in (pool, dearer)}
    assert len(keys) == 2


def test_words_are_looked_up_and_never_called(tmp_path: Path) -> None:
    words = ["Izar", "Kochab"]
    setting = Setting(pool=load_pool("embedded_profiles"))
    tokenizer = world_tokenizer(setting, words)
    tokenizer.save_pretrained(tmp_path)
    assert all(len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1 for word in words)
    config = ColdStartConfig(copy_steps=1, no_reply_share=0.0, lookup_share=0.25, words=words)
    traces = TraceDataset(str(tmp_path), setting, config)
    asked = Counter()
    for step in range(20):
        lookups, others = (batch := traces.sample_batch(step, 8))[:2], batch[2:]
        for example in lookups:
            read = [str(tokenizer.decode([token])).strip() for token in example["input_ids"]]
            found = example["loss_mask"].index(1) - 1
            listed = dict(zip(read[:found:2], read[1:found:2], strict=True))
            assert listed
            for key, value in zip(read[found::2], read[found + 1 :: 2], strict=True):
                assert listed[key] == value
                asked[value] += 1
            assert example["loss_mask"][found:] == [0, 1] * 8, "what is found is learned"
        rest = " ".join(str(tokenizer.decode(example["input_ids"])) for example in others)
        assert not any(word in rest for word in words)
    assert all(asked[word] > 5 for word in words)


def test_calls_lean_to_who_is_said_to_know(tmp_path: Path) -> None:
    setting = Setting(pool=load_pool("embedded_profiles"), offer=OfferConfig(size=3, names=NAMES))
    shares = {}
    for lean in (0.0, 1.0):
        knows = []
        for text in texts(setting, tmp_path, lean):
            (listed,) = re.findall(r"LLMs: (.*)\.\n", text)
            said = {part.split()[0]: part.split()[1:] for part in listed.split(", ")}
            knows += [domain in said[llm] for _, _, domain, llm, _ in CALL.findall(text)]
        shares[lean] = sum(knows) / len(knows)
    assert shares[0.0] == pytest.approx(0.5, abs=0.05)
    assert 0.6 < shares[1.0] < 0.8


def test_calls_lean_to_the_cheapest_who_knows_where_prices_are_stated(tmp_path: Path) -> None:
    pool = load_pool("embedded_profiles")
    offer = OfferConfig(size=4, names=NAMES, price_jitter=3.0, held_out=["Pyxis", "Regor"])
    setting = Setting(pool=pool, state_prices=True, offer=offer)
    ranks = Counter()
    for text in texts(setting, tmp_path, lean=1.0):
        (listed,) = re.findall(r"LLMs: (.*)\.\n", text)
        lines = [line.split() for line in listed.split(", ")]
        price = {name: float(stated.removeprefix("$")) for stated, name, *_ in lines}
        assert "e+" not in listed
        for _, _, domain, llm, _ in CALL.findall(text):
            cheap, dear = sorted(
                (price[name], name) for _, name, *knows in lines if domain in knows
            )
            if cheap[0] < dear[0]:
                ranks[{cheap[1]: 0, dear[1]: 1}.get(llm, 2)] += 1
    shares = [ranks[rank] / ranks.total() for rank in range(3)]
    weights = [math.exp(2), math.exp(1), 2]
    assert shares == pytest.approx([weight / sum(weights) for weight in weights], abs=0.05)


def test_scenes_are_drawn_by_their_random_numbers_alone() -> None:
    offer = OfferConfig(size=3, names=NAMES, price_jitter=0.2)
    setting = Setting(pool=load_pool("embedded_profiles"), state_cost_coe=True, offer=offer)
    one, two = (setting.draw(random.Random(5)) for _ in range(2))
    assert one == two
    (message,) = one.messages("Who?")
    assert message["content"].endswith(one.short_prompt("Who?"))
    assert "LLMs:" not in one.short_prompt("Who?")
