"""Supervised traces for the cold start: right format, right copies, routing at random.

Guarantees: the LLM of every call is drawn whatever the question; uniformly, and in a batch with
numbers of calls that differ by one at most, unless questions are offered LLMs of their own (each
call draws one of them) or prompts state what cost counts: then the draw leans as
``ColdStartConfig.lean`` says; a member of the pool that the world does not play (a tool, an LLM
with an endpoint of its own) replies with the right fact; only entities of the train split appear;
prompts, actions and observations are tokenised separately and then joined, exactly as a rollout
sees them; the loss mask is 1 on the policy's own tokens only. Beside traces there are exercises
of words alone, in which the loss mask is 1 on what is to be copied or found.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from router_r1.llm_agent.observation import render_observation
from router_r1.llm_agent.prompt import cost_tenths
from router_r1.pool.config import LLMConfig
from router_r1.tags import DEFAULT_TAGS, Tags
from router_r1.world.cold_start.setting import Scene, Setting
from router_r1.world.config import ColdStartConfig
from router_r1.world.knowledge import DOMAINS, Hop, Question
from router_r1.world.simulated_llm import UNKNOWN_REPLY

GAVE_UP = "unknown"  # the answer of who has no reply
_MAX_PAIRS, _LOOKUPS = 12, 8  # of a lookup exercise


@dataclass(frozen=True)
class Phrases:
    """What the policy learns to write.

    The thought names the LLM right after the domain: the routing choice then hangs on the one
    token before it, and RL finds it in tens of steps. Where the prompt states what cost counts, the
    thought repeats it and names a kind of LLM (its descriptor, such as "large") right after it, for
    the same reason; the LLM is then one of that kind.
    """

    tags: Tags = DEFAULT_TAGS
    states_cost_coe: bool = False
    answer: str = "<think> I know now</think><answer> {answer}</answer>"
    give_up: str = f"<think> no reply</think><answer> {GAVE_UP}</answer>"

    @property
    def search(self) -> str:
        """A thought and a call."""
        route = self.tags.route
        weighed = " at {tenths} {descriptor}" if self.states_cost_coe else ""
        thought = f"<think>{weighed} for {{domain}} {{llm}}</think>"
        return f"{thought}<{route}> {{llm}}: {{query}}</{route}>"

    def call(self, llm: LLMConfig, domain: str, query: str, cost_coe: float | None) -> str:
        """A thought and a call of an LLM; ``cost_coe`` is the question's, where it is stated."""
        weighed = {} if cost_coe is None else {"tenths": cost_tenths(cost_coe)}
        return self.search.format(
            domain=domain, llm=llm.name, query=query, descriptor=llm.described, **weighed
        )

    def all_texts(self) -> tuple[str, ...]:
        """For the tokenizer's vocabulary."""
        return (self.search, self.answer, self.give_up)


class TraceDataset:
    """Endless supervised examples; ``sample_batch`` is a pure function of (seed, step).

    Args:
        tokenizer_path: folder of the tokenizer.
        setting: what prompts and replies are of.
        config: the seed, and what there is of each kind of example. In its ``copy_steps``, half of
            the examples that are no lookups are repeated names without a prompt: they teach
            copying, and being short they are fast.
    """

    def __init__(self, tokenizer_path: str, setting: Setting, config: ColdStartConfig) -> None:
        self._setting, self._config = setting, config
        self._phrases = Phrases(setting.tags, setting.state_cost_coe)
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tokenizer_path)
        self._world = setting.make_world()
        names, llms, words = self._world.knowledge.names, setting.llm_names, config.words
        self._words = [*DOMAINS, *names.firsts, *names.lasts, *llms, *words]
        self._found = [self._words, llms, *([words] if words else [])]  # in equal parts
        subjects = self._world.knowledge.subjects["train"].values()
        persons = self._world.knowledge.persons["train"]
        self._train_names = [*(n for names in subjects for n in names), *persons]

    def sample_batch(self, step: int, batch_size: int) -> list[dict[str, list[int]]]:
        """``batch_size`` examples: ``input_ids`` and ``loss_mask`` of equal length."""
        rng = random.Random(f"traces-{self._config.seed}-{step}")
        copying = step < self._config.copy_steps
        llms = self._balanced_llms(rng)
        lookups = min(round(batch_size * self._config.lookup_share), batch_size - 1)
        return [self._lookup_example(rng) for _ in range(lookups)] + [
            self._copy_example(rng) if copying and i % 2 else self._trace(rng, llms, not copying)
            for i in range(batch_size - lookups)
        ]

    def _balanced_llms(self, rng: random.Random) -> Iterator[LLMConfig]:
        """Shuffled rounds of all names. With free draws the policy ends 0.03 to 0.06 from uniform,
        which decides what RL finds between LLMs that are nearly as good (measured).
        """
        llms = self._setting.pool.offered
        while True:
            yield from rng.sample(llms, len(llms))

    def _weights(self, scene: Scene, domain: str) -> list[float]:
        """How often each LLM of a scene is called for a hop, relative to the others."""
        prices = sorted({llm.completion_price for llm in scene.llms}, reverse=True)
        able = [llm for llm in scene.llms if domain in llm.described.split()]
        cheapest = min((llm.completion_price for llm in able), default=None)
        weights = []
        for llm in scene.llms:
            reasons = 0.0
            if self._setting.offer is not None and llm in able:
                reasons += 1
                reasons += self._setting.state_prices and llm.completion_price == cheapest
            if scene.cost_coe is not None:
                meant = scene.cost_coe * (len(prices) - 1)
                reasons -= abs(prices.index(llm.completion_price) - meant)
            weights.append(math.exp(self._config.lean * reasons))
        return weights

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _copy_example(self, rng: random.Random) -> dict[str, list[int]]:
        names = rng.sample(self._train_names, rng.randint(4, 11))
        ids = self._encode("".join(f" {name}" for name in names))
        return {"input_ids": ids + ids, "loss_mask": [0] * len(ids) + [1] * len(ids)}

    def _lookup_example(self, rng: random.Random) -> dict[str, list[int]]:
        pairs = [
            (word, rng.choice(rng.choice(self._found)))
            for word in rng.sample(self._words, rng.randint(2, _MAX_PAIRS))
        ]
        asked = rng.choices(pairs, k=_LOOKUPS)
        listed = [self._encode(f" {word}") for pair in pairs for word in pair]
        again = [(self._encode(f" {word}"), i) for pair in asked for i, word in enumerate(pair)]
        return {
            "input_ids": [*chain.from_iterable(listed), *(t for ids, _ in again for t in ids)],
            "loss_mask": [0] * sum(map(len, listed)) + [i for ids, i in again for _ in ids],
        }

    def _trace(
        self, rng: random.Random, llms: Iterator[LLMConfig], with_prompt: bool
    ) -> dict[str, list[int]]:
        question = self._world.knowledge.sample_question("train", rng)
        scene = self._setting.draw(rng)
        segments: list[tuple[list[int], int]] = [(self._prompt(question, scene, with_prompt), 0)]
        for action, observation in self._turns(question, scene, rng, llms):
            segments.append((self._encode(action), 1))
            if observation:
                segments.append((self._encode(observation), 0))
        return {
            "input_ids": [token for ids, _ in segments for token in ids],
            "loss_mask": [mask for ids, mask in segments for _ in ids],
        }

    def _prompt(self, question: Question, scene: Scene, with_prompt: bool) -> list[int]:
        if not with_prompt:
            return self._encode(scene.short_prompt(question.text))
        messages = [{"role": "user", "content": scene.prompt(question.text)}]
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return self._encode(str(text))

    def _reply(self, llm: str, query: str, hop: Hop) -> str:
        if llm in self._world.llms:
            return self._world.reply(llm, query).text
        return f"The {query.removeprefix('the ')} is {hop.answer}."

    def _turns(
        self,
        question: Question,
        scene: Scene,
        rng: random.Random,
        llms: Iterator[LLMConfig],
    ) -> list[tuple[str, str]]:
        """(action, observation) pairs; a wrong reply is believed, as the policy cannot tell."""
        turns: list[tuple[str, str]] = []
        subject = question.hops[0].subject
        tags = self._setting.tags
        for hop in question.hops:
            if len(turns) == self._setting.question_limit.calls:
                return [*turns, (self._phrases.give_up, "")]
            if self._setting.offer is not None or scene.cost_coe is not None:
                (llm,) = rng.choices(scene.llms, self._weights(scene, hop.domain))
            else:
                llm = next(llms)
            query = Hop(hop.domain, hop.relation, subject, "").query
            action = self._phrases.call(llm, hop.domain, query, scene.cost_coe)
            if rng.random() < self._config.no_reply_share:
                reply = rng.choice((UNKNOWN_REPLY, None))
                turns.append((action, render_observation(reply, tags)))
                return [*turns, (self._phrases.give_up, "")]
            text = self._reply(scene.offered.owner_of(llm).name, query, hop)
            turns.append((action, render_observation(text, tags)))
            subject = text.removesuffix(".").rsplit(" is ", 1)[-1]
        return [*turns, (self._phrases.answer.format(answer=subject), "")]
