"""What every baseline is: something that learns from outcomes and answers questions by calls.

Guarantees: a baseline sees of a test question its text and its dataset, never its answers; every
call it makes is in its :class:`~router_r1.evaluation.answer.Answer`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router_r1.evaluation.answer import Answer, Ask, Call, extract_short_answer
from router_r1.evaluation.baselines.embedding import Embedder
from router_r1.evaluation.benchmark import Prompt, Question
from router_r1.reward.outcome import f1_score
from verl.errors import UserError


class SilentPoolError(UserError):
    """No LLM answered any training question."""


@dataclass(frozen=True)
class TrainingSet:
    """What every LLM of the pool made of the training questions.

    Attributes:
        prompts, llms: the questions, and names in the pool's order.
        quality: (questions, llms) F1 of each reply's short answer, or the recorded outcome, in
            [0, 1].
        cost: (questions, llms) completion tokens x $ per 1M, or dollars where outcomes were
            recorded; a failed call counts as the dearest.
        embedder: fitted on the questions.
    """

    prompts: Sequence[Prompt]
    llms: Sequence[str]
    quality: np.ndarray
    cost: np.ndarray
    embedder: Embedder

    @property
    def relative_cost(self) -> np.ndarray:
        """``cost`` in units of the mean cost of the dearest LLM, so that weights carry over."""
        return self.cost / max(float(self.cost.mean(axis=0).max()), 1e-12)


async def collect_training_set(
    questions: Sequence[Question],
    llms: Sequence[str],
    ask: Ask,
    embedder: Embedder,
) -> TrainingSet:
    """Asks every LLM every training question.

    Quality is F1 rather than EM: on long free replies EM is 0 for all and teaches nothing.

    Raises:
        SilentPoolError: if every call failed.
    """
    pairs = [(question, llm) for question in questions for llm in llms]
    results = await asyncio.gather(*(ask(llm, q.prompt.text) for q, llm in pairs))
    shape = (len(questions), len(llms))
    answered = np.array([result.text is not None for result in results]).reshape(shape)
    if not answered.any():
        outcomes = ", ".join(sorted({result.outcome.value for result in results}))
        raise SilentPoolError(
            f"none of {len(results)} calls for training questions brought a reply ({outcomes}); "
            "check the pool's endpoint and key"
        )
    quality = [
        f1_score(extract_short_answer(result.text or ""), question.golden_answers)
        for result, (question, _) in zip(results, pairs, strict=True)
    ]
    cost = np.array([result.cost for result in results]).reshape(shape)
    cost = np.where(answered, cost, cost[answered].max())
    prompts = [question.prompt for question in questions]
    embedder.fit([prompt.text for prompt in prompts])
    return TrainingSet(prompts, list(llms), np.array(quality).reshape(shape), cost, embedder)


class Baseline(ABC):
    """A way to answer questions through the pool: ``name`` and ``kind`` of its row (one of
    :data:`router_r1.evaluation.comparison.KINDS`), and whether it ``learns`` before it answers."""

    kind: str
    learns = False

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, train: TrainingSet) -> None:  # noqa: B027 - what does not learn has nothing to do
        """Learns from outcomes."""

    @abstractmethod
    async def answer(self, prompt: Prompt, ask: Ask) -> Answer:
        """Answers one question by calls to the pool."""


class SingleShot(Baseline):
    """Asks LLMs of its choice the whole question, once."""

    @abstractmethod
    def route(self, prompt: Prompt) -> list[str]:
        """Names of the LLMs to ask."""

    def aggregate(self, prompt: Prompt, answers: dict[str, str]) -> str:  # noqa: ARG002
        """One answer from those of the LLMs asked; by default the first one's."""
        return next(iter(answers.values()), "")

    async def answer(self, prompt: Prompt, ask: Ask) -> Answer:
        """Asks all LLMs of the route at once."""
        names = self.route(prompt)
        results = await asyncio.gather(*(ask(name, prompt.text) for name in names))
        answers = {
            name: extract_short_answer(result.text)
            for name, result in zip(names, results, strict=True)
            if result.text is not None
        }
        calls = [Call(0, prompt.text, result) for result in results]
        return Answer(self.aggregate(prompt, answers), calls)
