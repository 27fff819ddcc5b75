"""The tiny policy before training: Qwen2 architecture, random weights, the world's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from router_r1.world.cold_start.setting import Setting
from router_r1.world.cold_start.tokenizer import build_tokenizer
from router_r1.world.cold_start.traces import Phrases
from router_r1.world.config import PolicySize
from router_r1.world.knowledge import BRIDGE_RELATIONS, DOMAINS, PERSON_RELATIONS
from router_r1.world.simulated_llm import UNKNOWN_REPLY

# Of a head that looks back: what each frequency adds to its greatest logit, and the slowest
# frequency that it uses, radians a place; slower ones hardly tell neighbours apart. Its attention
# there is 0.99 in contexts of up to 600 tokens, 0.97 in 2048 (measured).
_PEAK = 8.0
_LEAST_FREQUENCY = 0.09


def world_tokenizer(setting: Setting, words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """The tiny policy's tokenizer for what prompts say and the policy writes, and for ``words``."""
    return build_tokenizer(_texts(setting, words), setting.tags)


def _texts(setting: Setting, words: Sequence[str]) -> Iterator[str]:
    """Every kind of text of a run; names as single words, not entities."""
    names = setting.make_world().knowledge.names
    phrases = Phrases(setting.tags, setting.state_cost_coe)
    yield from (setting.template, phrases.search, phrases.answer, phrases.give_up)
    if setting.state_cost_coe:
        yield "".join(f" {tenths}" for tenths in range(11))
    yield from (UNKNOWN_REPLY, "None", "The", "user\nassistant\n\n")
    yield " ".join(["", *DOMAINS, *names.firsts, *names.lasts, *setting.llm_names, *words])
    for domain in DOMAINS:
        for relation in (*PERSON_RELATIONS[domain], BRIDGE_RELATIONS[domain][0]):
            yield f"Who is the {relation} of the x? The {relation} of x is x."


def create_policy(
    setting: Setting, size: PolicySize, seed: int, folder: Path, words: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Saves a randomly initialised model and its tokenizer in Hugging Face format."""
    tokenizer = world_tokenizer(setting, words)
    config = policy_config(tokenizer, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        if size.embedding_range is not None:
            embeddings = model.get_input_embeddings().weight
            embeddings.mul_(size.embedding_range / size.initializer_range)
        for head, distance in enumerate(size.look_back):
            _look_back(model.model.layers[0].self_attn, head, distance, config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _look_back(attention: Any, head: int, distance: int, config: Qwen2Config) -> None:
    """Lets head number ``head`` attend to the token ``distance`` places before, whatever it is.

    Its query and key are biases alone, turned by rotary positions (Su et al. 2021, eq. 34) by their
    place: the logit of a key d places back is the sum of ``_PEAK`` cos((d - distance) w) over the
    frequencies w.
    """
    dim = config.hidden_size // config.num_attention_heads
    rows = slice(head * dim, (head + 1) * dim)
    theta = config.rope_parameters["rope_theta"]
    frequencies = theta ** (-torch.arange(dim // 2) / (dim // 2))
    amplitudes = torch.where(frequencies >= _LEAST_FREQUENCY, (_PEAK * dim**0.5) ** 0.5, 0.0)
    angles = distance * frequencies
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight[rows] = 0.0
    attention.k_proj.bias[rows] = torch.cat([amplitudes, torch.zeros(dim // 2)])
    attention.q_proj.bias[rows] = torch.cat([amplitudes * angles.cos(), -amplitudes * angles.sin()])


def policy_config(tokenizer: PreTrainedTokenizerFast, size: PolicySize) -> Qwen2Config:
    """The architecture over a tokenizer's vocabulary."""
    shape = asdict(size)  # by Qwen2's own names, but for two
    del shape["embedding_range"], shape["look_back"]
    return Qwen2Config(
        **shape,
        vocab_size=len(tokenizer),
        num_key_value_heads=size.num_attention_heads,
        tie_word_embeddings=False,  # raising an LLM's logit must not change how its name is read
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
