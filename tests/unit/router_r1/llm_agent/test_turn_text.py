"""Where tokens and turns do not end together: in the text, in the stream, and in the whole loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from router_r1.llm_agent.generation import GenerationLimits, LLMGenerationManager
from router_r1.llm_agent.observer import TrajectoryObserver, TurnText
from router_r1.pool.config import PoolConfig
from router_r1.reward.manager import RewardConfig, RoutingRewardFunction
from router_r1.tags import DEFAULT_TAGS, opened_thought
from tests.templates import THINKING_TEMPLATE, MakeTokenizer
from verl.interfaces import RolloutOptions, RolloutRequest
from verl.protocol import DataProto
from verl.trajectory import TrajectoryStatus
from verl.workers.rollout.hf_engine import HFEngine

LIMITS = GenerationLimits(
    max_turns=2, max_response_length=24, max_prompt_length=256, max_obs_length=32
)
THOUGHT = [" I", " know", " now", "</think>", "<answer>", " unknown"]
Parts = st.lists(st.sampled_from(["</", "search>", "answer>", "a", "<", "</search>", ">", "."]))


class Listener(TrajectoryObserver):
    def __init__(self) -> None:
        self.text = ""

    def on_text(self, delta: str) -> None:
        assert delta
        self.text += delta


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<answer>a</answer>.", "<answer>a</answer>"),
        ("<search>A: q</search>>\n", "<search>A: q</search>"),
        ("</search></answer>", "</search>"),
        ("<answer>a</answ", "<answer>a</answ"),
    ],
)
def test_a_turns_text_ends_with_its_stop(text: str, kept: str) -> None:
    assert DEFAULT_TAGS.cut_after_stop(text) == kept


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("assistant\n<think>\n", "<think>\n"),
        ("assistant\n<think>", "<think>"),
        ("assistant\n<think>\n\n</think>\n\n", ""),
        ("write <think> and\nassistant\n", ""),
    ],
)
def test_only_a_thought_left_open_is_the_policys(prompt: str, opened: str) -> None:
    assert opened_thought(prompt) == opened


@given(Parts)
def test_the_stream_shows_the_turns_text_however_it_is_cut(parts: list[str]) -> None:
    listener = Listener()
    turn = TurnText(listener, lambda ids: "".join(parts[i] for i in ids))
    for i in range(len(parts)):
        turn.push([i])
    turn.end()
    assert listener.text == DEFAULT_TAGS.cut_after_stop("".join(parts))


@pytest.fixture
def engine_of(tmp_path: Path) -> Iterator[Callable[[Any, list[str]], HFEngine]]:
    """A real engine on a model whose weights make it write a script after a line break."""
    engines = []

    def make(tokenizer: Any, script: list[str]) -> HFEngine:
        tokenizer.add_tokens(script)
        ids = tokenizer.convert_tokens_to_ids(script)
        before = [tokenizer.encode(break_)[-1] for break_ in ("\n", "\n\n")]
        width = 2 * len(ids)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4,
            num_hidden_layers=1,
            num_attention_heads=1,
            tie_word_embeddings=False,
            eos_token_id=None,
            bos_token_id=None,
        )
        model: Any = LlamaForCausalLM(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.zero_()  # the layer adds nothing: a token's successor is its own
            for place, token in enumerate(ids):
                for previous in before if place == 0 else [ids[place - 1]]:
                    model.model.embed_tokens.weight[previous, place] = 1.0
                model.lm_head.weight[token, place] = 100.0
        folder = tmp_path / "scripted"
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        engines.append(HFEngine(str(folder), "cpu", "float32", 256))
        return engines[-1]

    yield make
    for engine in engines:
        engine._executor.shutdown()


@pytest.mark.parametrize(
    ("options", "script", "own"),
    [
        ({}, [*THOUGHT, "</answer>."], "<think>\n I know now</think><answer> unknown</answer>"),
        (
            {"enable_thinking": False},
            ["<think>", *THOUGHT, "</answer>>"],
            "<think> I know now</think><answer> unknown</answer>",
        ),
    ],
)
def test_a_template_that_opens_the_thought_and_a_token_past_the_stop_cost_no_format(
    make_tokenizer: MakeTokenizer,
    engine_of: Callable[[Any, list[str]], HFEngine],
    embedded_pool: PoolConfig,
    options: dict[str, Any],
    script: list[str],
    own: str,
) -> None:
    tokenizer = make_tokenizer(THINKING_TEMPLATE)
    engine = engine_of(tokenizer, script)
    pool = replace(embedded_pool, api_base="http://127.0.0.1:9/v1")  # which is never called
    manager = LLMGenerationManager(engine, tokenizer, pool, LIMITS, None, options)
    question = RolloutRequest("q", [{"role": "user", "content": "Who?<|im_end|>"}])
    listener = Listener()
    try:
        trajectory = manager.run(
            manager.run_one(question, RolloutOptions(temperature=0.0), listener)
        )
    finally:
        manager.close()
    assert trajectory.status is TrajectoryStatus.ANSWERED
    assert tokenizer.convert_ids_to_tokens(trajectory.response_ids)[-1] == script[-1]
    assert len(trajectory.response_ids) == len(script)
    record = trajectory.record
    assert record.response_text == record.policy_text == listener.text == own
    assert record.neutralised == 1
    batch = DataProto.from_dict(non_tensors={"record": [record], "ground_truth": [["Unknown"]]})
    reward = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.0)(batch, validate=True)
    assert (reward.scores.tolist(), reward.metrics["format"].tolist()) == ([1.0], [0.0])
