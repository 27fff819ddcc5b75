"""Baselines that do not look at the question: one LLM for all, or a random one; and the embedded
world's best route."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from router_r1.evaluation.answer import Answer, Ask, Call, extract_short_answer
from router_r1.evaluation.baselines.base import Baseline, SingleShot, TrainingSet
from router_r1.evaluation.benchmark import Prompt
from router_r1.world.knowledge import Knowledge

_Choose = Callable[[tuple[str, ...]], tuple[str, ...]]


class SingleLLM(SingleShot):
    """Asks the same LLM every time; ``rule`` is the one that chose it, "" for none."""

    kind = "single"

    def __init__(self, llm: str, rule: str = "") -> None:
        super().__init__(f"{rule} ({llm})" if rule else llm)
        self.llm = llm

    def route(self, prompt: Prompt) -> list[str]:  # noqa: ARG002
        """The LLM that it was made with."""
        return [self.llm]


class BestSingle(SingleShot):
    """Asks the LLM that did best on the training questions every time; of equals the cheapest."""

    kind = "single"
    learns = True

    def __init__(self) -> None:
        super().__init__("best")

    def fit(self, train: TrainingSet) -> None:
        """Finds it; the row is named after it."""
        quality, cost = train.quality.mean(axis=0), train.cost.mean(axis=0)
        best = min(range(len(train.llms)), key=lambda i: (-quality[i], cost[i]))
        self._llm = train.llms[best]
        self.name = f"best ({self._llm})"

    def route(self, prompt: Prompt) -> list[str]:  # noqa: ARG002
        """The LLM found."""
        return [self._llm]


class RandomRouter(SingleShot):
    """Draws an LLM per question; the draw depends on seed and question alone."""

    kind = "random"

    def __init__(self, llms: Sequence[str], seed: int) -> None:
        super().__init__("random")
        self._llms, self._seed = list(llms), seed

    def route(self, prompt: Prompt) -> list[str]:
        """The LLM drawn for this question."""
        return [random.Random(f"random-{self._seed}-{prompt.text}").choice(self._llms)]


class HopRouter(Baseline):
    """Knows a question's chain of facts and asks for each of them on its own.

    What a hop's LLM answers is what the next hop asks about, right or wrong, as for a trained
    router. ``knowledge`` finds the chain, and ``choose`` says from the domains of the hops which
    LLM each of them asks.
    """

    kind = "oracle"

    def __init__(self, name: str, knowledge: Knowledge, choose: _Choose) -> None:
        super().__init__(name)
        self._knowledge, self._choose = knowledge, choose

    async def answer(self, prompt: Prompt, ask: Ask) -> Answer:
        """Asks for each fact in turn; stops where a call fails."""
        hops = self._knowledge.parse(prompt.text)
        if hops is None:
            raise ValueError(f"no question of this world: {prompt.text!r}")
        subject, calls = hops[0].subject, []
        route = self._choose(tuple(hop.domain for hop in hops))
        for turn, (hop, llm) in enumerate(zip(hops, route, strict=True)):
            query = f"the {hop.relation} of {subject}"
            result = await ask(llm, query)
            calls.append(Call(turn, query, result))
            if result.text is None:
                return Answer("", calls)
            subject = extract_short_answer(result.text)
        return Answer(subject, calls)
