"""The tiny policy before training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen2ForCausalLM

from router_r1.pool.loading import load_pool
from router_r1.world.cold_start.policy import create_policy, policy_config
from router_r1.world.cold_start.setting import Setting
from router_r1.world.config import PolicySize
from verl.config.validation import ConfigError


def made(size: PolicySize, folder: Path) -> Qwen2ForCausalLM:
    create_policy(Setting(pool=load_pool("embedded")), size, 0, folder)
    return Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_nothing_is_changed_of_the_architectures_own_first_values(tmp_path: Path) -> None:
    model = made(PolicySize(), tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = Qwen2ForCausalLM(
            policy_config(AutoTokenizer.from_pretrained(tmp_path), PolicySize())
        )
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_heads_look_back_whatever_the_tokens_are(tmp_path: Path) -> None:
    places = [1, 3, 5]
    model = made(PolicySize(look_back=places), tmp_path)
    model.set_attn_implementation("eager")
    ids = torch.randint(0, model.config.vocab_size, (4, 300), generator=torch.manual_seed(0))
    first, second = model(ids, output_attentions=True).attentions  # (4, heads, 300, 300)
    for head, distance in enumerate(places):
        assert first[:, head].diagonal(-distance, dim1=-2, dim2=-1).min() > 0.95
    others = torch.cat([first[:, len(places) :], second], dim=1)
    assert others.diagonal(-1, dim1=-2, dim2=-1).mean() < 0.1


def test_embeddings_are_as_wide_as_is_said(tmp_path: Path) -> None:
    size = PolicySize(embedding_range=0.5)
    model = made(size, tmp_path)
    assert model.get_input_embeddings().weight.std().item() == pytest.approx(0.5, rel=0.02)
    assert model.lm_head.weight.std().item() == pytest.approx(size.initializer_range, rel=0.02)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([1] * 9, "is of 9 heads, but the policy has 8 a"),
        ([1, 0], r"counts places back, >= 1; got"),
    ],
)
def test_heads_that_there_are_not_are_refused(places: list[int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PolicySize(look_back=places)


def test_what_is_learned_about_choosing_an_llm_does_not_change_how_its_name_is_read(
    policy_folder: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy_folder)
    model = Qwen2ForCausalLM.from_pretrained(policy_folder)
    (name,) = tokenizer.encode(" Draco", add_special_tokens=False)
    ids = tokenizer("<think> for sport Draco", return_tensors="pt").input_ids
    assert name in ids[0]
    with torch.no_grad():
        before = model(ids).logits
        model.get_output_embeddings().weight[name] += 1.0
        change = model(ids).logits - before
    assert change[..., name].abs().min() > 0
    change[..., name] = 0
    assert change.abs().max() == 0
