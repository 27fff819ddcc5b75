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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from router_r1.llm_agent.observation import render_observation
from router_r1.llm_agent.prompt import cost_tenths
from router_r1.pool.config import LLMConfig
from router_r1.tags import DEFAULT_TAGS, Tags
from router_r1.world.cold_start.setting import Scene, Setting
from router_r1.world.config import ColdStartConfig
from router_r1.world.knowledge import DOMAINS, Question
from router_r1.world.simulated_llm import UNKNOWN_REPLY, told
from verl.utils.chat_template import ChatTemplate

if TYPE_CHECKING:
    from verl.trainer.sft.examples import Example

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


class TraceDataset:
    """Endless supervised examples; ``sample_batch`` is a pure function of (seed, step).

    In the first ``config.copy_steps`` half of the examples that are no lookups are repeated names
    without a prompt: they teach copying, and being short they are fast.
    """

    def __init__(self, tokenizer_path: str, setting: Setting, config: ColdStartConfig) -> None:
        self._setting, self._config = setting, config
        self._phrases = Phrases(setting.tags, setting.state_cost_coe)
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tokenizer_path)
        self._template = ChatTemplate(self._tokenizer)
        self._world = setting.make_world()
        names, llms, words = self._world.knowledge.names, setting.llm_names, config.words
        self._words = [*DOMAINS, *names.firsts, *names.lasts, *llms, *words]
        self._found = [self._words, llms, *([words] if words else [])]  # in equal parts
        subjects = self._world.knowledge.subjects["train"].values()
        persons = self._world.knowledge.persons["train"]
        self._train_names = [*(n for names in subjects for n in names), *persons]

    def sample_batch(self, step: int, batch_size: int) -> list[Example]:
        """See :class:`verl.trainer.sft.examples.ExampleSource`."""
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

    def _copy_example(self, rng: random.Random) -> Example:
        names = rng.sample(self._train_names, rng.randint(4, 11))
        ids = self._template.encode("".join(f" {name}" for name in names))
        return _joined([(ids, 0), (ids, 1)])

    def _lookup_example(self, rng: random.Random) -> Example:
        pairs = [
            (word, rng.choice(rng.choice(self._found)))
            for word in rng.sample(self._words, rng.randint(2, _MAX_PAIRS))
        ]
        asked = rng.choices(pairs, k=_LOOKUPS)
        words = [(word, 0) for pair in pairs for word in pair]
        words += [(word, place) for pair in asked for place, word in enumerate(pair)]
        return _joined((self._template.encode(f" {word}"), mask) for word, mask in words)

    def _trace(self, rng: random.Random, llms: Iterator[LLMConfig], with_prompt: bool) -> Example:
        question = self._world.knowledge.sample_question("train", rng)
        scene = self._setting.draw(rng)
        prompt: Sequence[int] = (
            self._template.render(scene.messages(question.text)).token_ids
            if with_prompt
            else self._template.encode(scene.short_prompt(question.text))
        )
        turns = self._turns(question, scene, rng, llms)
        written = ((self._template.encode(text), mask) for text, mask in turns)
        return _joined([(prompt, 0), *written])

    def _turns(
        self, question: Question, scene: Scene, rng: random.Random, llms: Iterator[LLMConfig]
    ) -> Iterator[tuple[str, int]]:
        """Actions and observations, with the loss mask of each; a wrong reply is believed, as the
        policy cannot tell.
        """
        subject = question.hops[0].subject
        for number, hop in enumerate(question.hops):
            if number == self._setting.question_limit.calls:
                yield self._phrases.give_up, 1
                return
            if self._setting.offer is not None or scene.cost_coe is not None:
                (llm,) = rng.choices(scene.llms, self._weights(scene, hop.domain))
            else:
                llm = next(llms)
            query = replace(hop, subject=subject).query
            yield self._phrases.call(llm, hop.domain, query, scene.cost_coe), 1
            if rng.random() < self._config.no_reply_share:
                reply = rng.choice((UNKNOWN_REPLY, None))
                yield render_observation(reply, self._setting.tags), 0
                yield self._phrases.give_up, 1
                return
            asked = scene.offered.owner_of(llm).name
            played = asked in self._world.llms
            text = self._world.reply(asked, query).text if played else told(query, hop.answer)
            yield render_observation(text, self._setting.tags), 0
            subject = text.removesuffix(".").rsplit(" is ", 1)[-1]
        yield self._phrases.answer.format(answer=subject), 1


def _joined(parts: Iterable[tuple[Sequence[int], int]]) -> Example:
    """One example of ids with their loss mask."""
    pairs = [(token, mask) for ids, mask in parts for token in ids]
    return {"input_ids": [token for token, _ in pairs], "loss_mask": [mask for _, mask in pairs]}
