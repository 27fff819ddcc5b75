"""Baselines that learn nothing: one LLM for all, or a random one."""

from __future__ import annotations

import random
from collections.abc import Sequence

from router_r1.evaluation.baselines.base import SingleShot
from router_r1.evaluation.benchmark import Prompt
from router_r1.pool.config import LLMConfig


class SingleLLM(SingleShot):
    """Asks the same LLM every time."""

    kind = "single"

    def __init__(self, llm: str, name: str | None = None) -> None:
        super().__init__(name or llm)
        self._llm = llm

    def route(self, prompt: Prompt) -> list[str]:  # noqa: ARG002
        """The LLM that it was made with."""
        return [self._llm]


def cheapest(llms: Sequence[LLMConfig]) -> SingleLLM:
    """The lowest price per completion token; the first of equals."""
    chosen = min(llms, key=lambda llm: llm.completion_price)
    return SingleLLM(chosen.name, f"cheapest ({chosen.name})")


def largest(llms: Sequence[LLMConfig]) -> SingleLLM:
    """The highest price per completion token, a stand-in for size; the first of equals."""
    chosen = max(llms, key=lambda llm: llm.completion_price)
    return SingleLLM(chosen.name, f"largest ({chosen.name})")


class RandomRouter(SingleShot):
    """Draws an LLM per question; the draw depends on seed and question alone."""

    kind = "random"

    def __init__(self, llms: Sequence[str], seed: int) -> None:
        super().__init__("random")
        self._llms = list(llms)
        self._seed = seed

    def route(self, prompt: Prompt) -> list[str]:
        """The LLM drawn for this question."""
        return [random.Random(f"random-{self._seed}-{prompt.text}").choice(self._llms)]
