"""What every baseline is: something that learns from outcomes and answers questions by calls.

Guarantees: a baseline sees of a test question its text and its dataset, never its answers; every
call it makes is in its :class:`Played`, so its cost is the sum of its calls.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from router_r1.evaluation.baselines.embedding import Embedder
from router_r1.evaluation.baselines.extraction import extract_short_answer
from router_r1.pool.outcome import CallResult
from verl.trajectory import AgentRecord

Ask = Callable[[str, str], Awaitable[CallResult]]
KINDS = ("random", "single", "learned", "fusion", "retrieval", "prompt", "router", "oracle")


@dataclass(frozen=True)
class Prompt:
    """What a baseline may know of a question: its text and which benchmark it is from."""

    data_source: str
    text: str


@dataclass(frozen=True)
class Call:
    """One call of a baseline; calls of one ``turn`` were made at once."""

    turn: int
    query: str
    result: CallResult


@dataclass(frozen=True)
class Played(AgentRecord):
    """A baseline's answer to one question; empty if no call brought one."""

    answer: str
    calls: list[Call]


@dataclass(frozen=True)
class TrainingSet:
    """What every LLM of the pool made of the training questions.

    Attributes:
        prompts: the questions.
        llms: names, in the pool's order.
        quality: (questions, llms) F1 of each reply's short answer, in [0, 1].
        cost: (questions, llms) completion tokens x $ per 1M; a failed call counts as the dearest.
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

    def features(self) -> np.ndarray:
        """(questions, dimensions): embeddings of the questions."""
        return self.embedder.embed([prompt.text for prompt in self.prompts])


class Contestant(Protocol):
    """Takes part in a comparison.

    Attributes:
        name: of its row.
        kind: one of ``KINDS``.
        learns: whether :meth:`fit` must be called before :meth:`answer`.
    """

    name: str
    kind: str
    learns: bool

    def fit(self, train: TrainingSet) -> None:
        """Learns from outcomes."""
        ...

    async def answer(self, prompt: Prompt, ask: Ask) -> Played:
        """Answers one question by calls to the pool."""
        ...


class SingleShot(ABC):
    """Asks LLMs of its choice the whole question, once.

    Args:
        name: of its row.
    """

    kind = "learned"
    learns = True

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, train: TrainingSet) -> None:  # noqa: B027 - what does not learn has nothing to do
        """Learns from outcomes."""

    @abstractmethod
    def route(self, prompt: Prompt) -> list[str]:
        """Names of the LLMs to ask."""

    def aggregate(self, prompt: Prompt, answers: dict[str, str]) -> str:  # noqa: ARG002
        """One answer from those of the LLMs asked; by default the first one's."""
        return next(iter(answers.values()), "")

    async def answer(self, prompt: Prompt, ask: Ask) -> Played:
        """Asks all LLMs of the route at once."""
        names = self.route(prompt)
        results = await asyncio.gather(*(ask(name, prompt.text) for name in names))
        answers = {
            name: extract_short_answer(result.text)
            for name, result in zip(names, results, strict=True)
            if result.text is not None
        }
        calls = [Call(0, prompt.text, result) for result in results]
        return Played(self.aggregate(prompt, answers), calls)
