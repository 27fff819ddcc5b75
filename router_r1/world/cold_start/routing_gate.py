"""The cold start's gate: does the policy write the format, valid names, right copies?

Guarantees: the questions are about entities of the validation split, which no trace shows; every
rate is measured on text sampled at temperature 1.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from router_r1.llm_agent.observation import encode_observation
from router_r1.llm_agent.parsing import parse_action
from router_r1.tags import ANSWER, SEARCH
from router_r1.world.cold_start.setting import Setting
from router_r1.world.cold_start.traces import GAVE_UP, Phrases
from router_r1.world.config import ColdStartConfig
from router_r1.world.knowledge import Hop, Question
from router_r1.world.simulated_llm import told
from verl.trainer.sft.gate import GateReport
from verl.utils.chat_template import ChatTemplate

Right = dict[str, list[bool]]
"""For each rate, whether those were right that it is measured on."""

_MAX_TURN_TOKENS = 40
_MAX_OBSERVATION_TOKENS = 64


class ColdStartGate:
    """Implements :class:`verl.trainer.sft.gate.Gate`; ``config`` has the least rates, and the seed
    of questions and sampling."""

    def __init__(self, setting: Setting, config: ColdStartConfig, num_questions: int = 200) -> None:
        self._setting = setting
        self._phrases = Phrases(setting.tags, setting.state_cost_coe)
        self._thresholds, self._seed = config.gate, config.seed
        rng = random.Random(f"gate-{config.seed}")
        sample = setting.make_world().knowledge.sample_question
        self._questions = [sample("validation", rng) for _ in range(num_questions)]
        self._scenes = [setting.draw(rng) for _ in range(num_questions)]

    def __call__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> GateReport:
        """Plays every question hop by hop with right replies, as the true router would see them."""
        template = ChatTemplate(tokenizer)
        contexts = [
            [*template.render(scene.messages(question.text)).token_ids]
            for question, scene in zip(self._questions, self._scenes, strict=True)
        ]
        right: Right = {"names": [], "copies": [], "format": []}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            for turn in range(max(len(self._hops(q)) for q in self._questions) + 1):
                live = [i for i, q in enumerate(self._questions) if turn <= len(self._hops(q))]
                texts = sample_turns(
                    model, tokenizer, [contexts[i] for i in live], self._setting.tags.stop_strings
                )
                for i, text in zip(live, texts, strict=True):
                    self._judge(text, i, turn, right)
                    if turn < len(self._hops(self._questions[i])):
                        contexts[i] += self._right_turn(tokenizer, i, turn)
        rates = {name: sum(those) / max(1, len(those)) for name, those in right.items()}
        passed = all(rates[name] >= least for name, least in asdict(self._thresholds).items())
        return GateReport(passed, rates)

    def _hops(self, question: Question) -> Sequence[Hop]:
        """Those that there are calls for."""
        return question.hops[: self._setting.question_limit.calls]

    def _judge(self, text: str, number: int, turn: int, right: Right) -> None:
        """Adds what is to be measured of one turn."""
        question, scene = self._questions[number], self._scenes[number]
        action = parse_action(text, self._setting.tags)
        hops = self._hops(question)
        calls = turn < len(hops)
        well_formed = text.startswith("<think>") and action.kind == (SEARCH if calls else ANSWER)
        right["format"].append(well_formed)
        if not well_formed:
            return
        if calls:
            right["names"].append(scene.offered.pool.resolve(action.llm_name) is not None)
            right["copies"].append(action.query == hops[turn].query)
        else:
            known = len(hops) == len(question.hops)
            right["copies"].append(action.content == (question.answer if known else GAVE_UP))

    def _right_turn(self, tokenizer: PreTrainedTokenizerBase, number: int, turn: int) -> list[int]:
        """Tokens of a right call by a random LLM and of the right reply."""
        question, scene = self._questions[number], self._scenes[number]
        hop = question.hops[turn]
        rng = random.Random(f"{self._seed}-{question.text}-{turn}")
        llm = rng.choice(scene.llms)
        action = self._phrases.call(llm, hop.domain, hop.query, scene.cost_coe)
        reply = told(hop.query, hop.answer)
        observation = encode_observation(
            reply, tokenizer, _MAX_OBSERVATION_TOKENS, self._setting.tags
        )
        return [*tokenizer.encode(action, add_special_tokens=False), *observation.token_ids]


def sample_turns(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    contexts: list[list[int]],
    stop_tokens: Sequence[str],
) -> list[str]:
    """One sampled turn per context, ended at one of the tokens."""
    ends = tokenizer.convert_tokens_to_ids(list(stop_tokens))
    batch = tokenizer.pad({"input_ids": contexts}, padding_side="left", return_tensors="pt")
    sampled = model.generate(
        **batch,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=_MAX_TURN_TOKENS,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
    )
    texts = []
    for turn in sampled[:, batch["input_ids"].shape[1] :].tolist():
        length = next((i for i, token in enumerate(turn, start=1) if token in ends), len(turn))
        texts.append(str(tokenizer.decode(turn[:length])))
    return texts
