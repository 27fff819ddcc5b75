"""Supervised traces for the cold start: right format, right copies, routing at random.

Guarantees: the LLM of every call is drawn uniformly, whatever the question, and in a batch the
LLMs' numbers of calls differ by one at most; only entities of the train split appear; prompts,
actions and observations are tokenised separately and then joined, exactly as a rollout sees them;
the loss mask is 1 on the policy's own tokens only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import OmegaConf
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from router_r1.llm_agent.observation import render_observation
from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.pool.config import PoolConfig
from router_r1.tags import DEFAULT_TAGS, Tags
from router_r1.world.config import WorldConfig
from router_r1.world.knowledge import Hop, Question
from router_r1.world.simulated_llm import UNKNOWN_REPLY, World
from verl.config.validation import to_dataclass


@dataclass(frozen=True)
class Phrases:
    """What the policy learns to write.

    The thought names the LLM right after the domain: the routing choice then hangs on the one
    token before it, and RL finds it in tens of steps.
    """

    tags: Tags = DEFAULT_TAGS
    answer: str = "<think> I know now</think><answer> {answer}</answer>"
    give_up: str = "<think> no reply</think><answer> unknown</answer>"

    @property
    def search(self) -> str:
        """A thought and a call."""
        route = self.tags.route
        return f"<think> for {{domain}} {{llm}}</think><{route}> {{llm}}: {{query}}</{route}>"

    def all_texts(self) -> tuple[str, ...]:
        """For the tokenizer's vocabulary."""
        return (self.search, self.answer, self.give_up)


class TraceDataset:
    """Endless supervised examples; ``sample_batch`` is a pure function of (seed, step).

    Args:
        tokenizer_path: folder of the tokenizer.
        world: config of the world, as a mapping.
        pool: config of the pool, as a mapping.
        seed: of the traces.
        copy_steps: first steps, in which half of the examples are repeated names without a
            prompt: they teach copying, and being short they are fast.
        no_reply_share: part of the traces in which a call brings nothing.
        route_tag: name of the tag of a call.
    """

    def __init__(
        self,
        tokenizer_path: str,
        world: dict[str, object],
        pool: dict[str, object],
        seed: int,
        copy_steps: int,
        no_reply_share: float,
        route_tag: str = DEFAULT_TAGS.route,
    ) -> None:
        self._tags = Tags(route_tag)
        self._phrases = Phrases(self._tags)
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tokenizer_path)
        self._pool = to_dataclass(OmegaConf.create(pool), PoolConfig)
        self._world = World.of_pool(to_dataclass(OmegaConf.create(world), WorldConfig), self._pool)
        self._template = build_prompt_template("compact", self._pool, self._tags)
        self._seed = seed
        self._copy_steps = copy_steps
        self._no_reply_share = no_reply_share
        subjects = self._world.knowledge.subjects["train"].values()
        persons = self._world.knowledge.persons["train"]
        self._train_names = [*(n for names in subjects for n in names), *persons]

    def sample_batch(self, step: int, batch_size: int) -> list[dict[str, list[int]]]:
        """``batch_size`` examples: ``input_ids`` and ``loss_mask`` of equal length."""
        rng = random.Random(f"traces-{self._seed}-{step}")
        copying = step < self._copy_steps
        llms = self._balanced_llms(rng)
        return [
            self._copy_example(rng) if copying and i % 2 else self._trace(rng, llms, not copying)
            for i in range(batch_size)
        ]

    def _balanced_llms(self, rng: random.Random) -> Iterator[str]:
        """Shuffled rounds of all names. With free draws the policy ends 0.03 to 0.06 from uniform,
        which decides what RL finds between LLMs that are nearly as good (measured).
        """
        names = [llm.name for llm in self._pool.offered]
        while True:
            yield from rng.sample(names, len(names))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _copy_example(self, rng: random.Random) -> dict[str, list[int]]:
        names = "".join(f" {name}" for name in rng.sample(self._train_names, rng.randint(4, 11)))
        ids = self._encode(names)
        return {"input_ids": ids + ids, "loss_mask": [0] * len(ids) + [1] * len(ids)}

    def _trace(
        self, rng: random.Random, llms: Iterator[str], with_prompt: bool
    ) -> dict[str, list[int]]:
        question = self._world.knowledge.sample_question("train", rng)
        segments: list[tuple[list[int], int]] = [(self._prompt(question, with_prompt), 0)]
        for action, observation in self._turns(question, rng, llms):
            segments.append((self._encode(action), 1))
            if observation:
                segments.append((self._encode(observation), 0))
        return {
            "input_ids": [token for ids, _ in segments for token in ids],
            "loss_mask": [mask for ids, mask in segments for _ in ids],
        }

    def _prompt(self, question: Question, with_prompt: bool) -> list[int]:
        if not with_prompt:
            return self._encode(f"Question: {question.text}")
        messages = [{"role": "user", "content": fill(self._template, question.text)}]
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return self._encode(str(text))

    def _turns(
        self, question: Question, rng: random.Random, llms: Iterator[str]
    ) -> list[tuple[str, str]]:
        """(action, observation) pairs; a wrong reply is believed, as the policy cannot tell."""
        turns: list[tuple[str, str]] = []
        subject = question.hops[0].subject
        for hop in question.hops:
            llm = next(llms)
            query = Hop(hop.domain, hop.relation, subject, "").query
            action = self._phrases.search.format(domain=hop.domain, llm=llm, query=query)
            if rng.random() < self._no_reply_share:
                reply = rng.choice((UNKNOWN_REPLY, None))
                turns.append((action, render_observation(reply, self._tags)))
                return [*turns, (self._phrases.give_up, "")]
            text = self._world.reply(llm, query).text
            turns.append((action, render_observation(text, self._tags)))
            subject = text.removesuffix(".").rsplit(" is ", 1)[-1]
        return [*turns, (self._phrases.answer.format(answer=subject), "")]
