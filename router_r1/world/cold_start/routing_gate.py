"""The cold start's gate: does the policy write the format, valid names, right copies?

Guarantees: the questions are about entities of the validation split, which no trace shows; every
rate is measured on text sampled at temperature 1.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from router_r1.llm_agent.observation import encode_observation
from router_r1.llm_agent.parsing import parse_action
from router_r1.tags import ANSWER, SEARCH
from router_r1.world.cold_start.setting import Setting
from router_r1.world.cold_start.traces import GAVE_UP, Phrases
from router_r1.world.knowledge import Hop, Question
from verl.trainer.sft.gate import GateReport

_MAX_TURN_TOKENS = 40
_MAX_OBSERVATION_TOKENS = 64


class ColdStartGate:
    """Implements :class:`verl.trainer.sft.gate.Gate`.

    Args:
        setting: see :class:`~router_r1.world.cold_start.setting.Setting`, as a mapping.
        thresholds: least rate by name: names, copies, format.
        num_questions: sample size.
        seed: of questions and sampling.
    """

    def __init__(
        self,
        setting: dict[str, object],
        thresholds: dict[str, float],
        num_questions: int,
        seed: int,
    ) -> None:
        self._setting = Setting.from_mapping(setting)
        self._phrases = Phrases(self._setting.tags, self._setting.state_cost_coe)
        self._thresholds = thresholds
        self._seed = seed
        rng = random.Random(f"gate-{seed}")
        sample = self._setting.make_world().knowledge.sample_question
        self._questions = [sample("validation", rng) for _ in range(num_questions)]
        self._scenes = [self._setting.draw(rng) for _ in range(num_questions)]

    def __call__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> GateReport:
        """Plays every question hop by hop with right replies, as the true router would see them."""
        contexts = [
            self._prompt(tokenizer, scene.prompt(question.text))
            for question, scene in zip(self._questions, self._scenes, strict=True)
        ]
        counts = {name: [0, 0] for name in ("names", "copies", "format")}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            for turn in range(max(len(self._hops(q)) for q in self._questions) + 1):
                live = [i for i, q in enumerate(self._questions) if turn <= len(self._hops(q))]
                texts = sample_turns(
                    model, tokenizer, [contexts[i] for i in live], self._setting.tags.stop_strings
                )
                for i, text in zip(live, texts, strict=True):
                    question = self._questions[i]
                    self._judge(text, i, turn, counts)
                    if turn < len(self._hops(question)):
                        contexts[i] = contexts[i] + self._right_turn(tokenizer, i, turn)
        rates = {name: right / max(1, total) for name, (right, total) in counts.items()}
        passed = all(rates[name] >= least for name, least in self._thresholds.items())
        return GateReport(passed, rates)

    def _hops(self, question: Question) -> Sequence[Hop]:
        """Those that there are calls for."""
        return question.hops[: self._setting.question_limit.calls]

    def _prompt(self, tokenizer: PreTrainedTokenizerBase, content: str) -> list[int]:
        messages = [{"role": "user", "content": content}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return list(tokenizer.encode(str(text), add_special_tokens=False))

    def _judge(self, text: str, number: int, turn: int, counts: dict[str, list[int]]) -> None:
        question, scene = self._questions[number], self._scenes[number]
        action = parse_action(text, self._setting.tags)
        hops = self._hops(question)
        calls = turn < len(hops)
        well_formed = text.startswith("<think>") and action.kind == (SEARCH if calls else ANSWER)
        _count(counts["format"], well_formed)
        if not well_formed:
            return
        if calls:
            _count(counts["names"], scene.offered.pool.resolve(action.llm_name) is not None)
            _count(counts["copies"], action.query == hops[turn].query)
        else:
            known = len(hops) == len(question.hops)
            _count(counts["copies"], action.content == (question.answer if known else GAVE_UP))

    def _right_turn(self, tokenizer: PreTrainedTokenizerBase, number: int, turn: int) -> list[int]:
        """Tokens of a right call by a random LLM and of the right reply."""
        question, scene = self._questions[number], self._scenes[number]
        hop = question.hops[turn]
        rng = random.Random(f"{self._seed}-{question.text}-{turn}")
        llm = rng.choice(scene.llms)
        action = self._phrases.call(llm, hop.domain, hop.query, scene.cost_coe)
        reply = f"The {hop.query.removeprefix('the ')} is {hop.answer}."
        observation = encode_observation(
            reply, tokenizer, _MAX_OBSERVATION_TOKENS, self._setting.tags
        )
        return [*tokenizer.encode(action, add_special_tokens=False), *observation.token_ids]


def _count(counter: list[int], right: bool) -> None:
    counter[0] += int(right)
    counter[1] += 1


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
