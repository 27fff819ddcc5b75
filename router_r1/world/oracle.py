"""Expected EM and cost of routers that the world's own numbers determine, in closed form.

A router here asks, for each hop of a question, one LLM; its answer is right when every hop is.
Wrong names share no word with right ones, so the expected F1 equals the expected EM.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from router_r1.reward.cost import CostScale
from router_r1.world.knowledge import Question
from router_r1.world.simulated_llm import World


@dataclass(frozen=True)
class Expectation:
    """Means per question; ``cost`` is completion tokens x $ per 1M tokens."""

    em: float
    f1: float
    cost: float
    calls: float

    @staticmethod
    def mean(parts: Sequence[tuple[float, float, float]]) -> Expectation:
        """From (em, cost, calls) of each question."""
        em, cost, calls = (float(np.mean(column)) for column in zip(*parts, strict=True))
        return Expectation(em=em, f1=em, cost=cost, calls=calls)


class Oracle:
    """Knows every reliability and price.

    Args:
        world: the world.
        prices: LLM name to $ per 1M completion tokens, from the pool file.
        questions: those the means are taken over.
        scale: by which costs are rewarded; None takes that of random routing.
    """

    def __init__(
        self,
        world: World,
        prices: Mapping[str, float],
        questions: Sequence[Question],
        scale: CostScale | None = None,
    ) -> None:
        self._llms = world.llms
        self._call_cost = {
            name: llm.mean_completion_tokens() * prices[name] for name, llm in world.llms.items()
        }
        self._questions = questions
        self._given_scale = scale

    @cached_property
    def scale(self) -> CostScale:
        """By which costs are rewarded."""
        return self._given_scale or self._scale_of_random_routing()

    def _scale_of_random_routing(self) -> CostScale:
        """Over what each question costs by each of its routes; every question weighs the same."""
        counts = Counter(question.domains for question in self._questions)
        longest = max(map(len, counts))
        roots: list[float] = []
        for domains, count in counts.items():
            weight = count * len(self._llms) ** (longest - len(domains))
            for route in self._routes(domains):
                roots += [math.sqrt(self._route(domains, route)[1])] * weight
        return CostScale.over(roots)

    def _route(self, domains: tuple[str, ...], route: tuple[str, ...]) -> tuple[float, float]:
        """Expected EM and cost of asking ``route[i]`` for hop i."""
        em = math.prod(
            self._llms[name].reliability[domain]
            for name, domain in zip(route, domains, strict=True)
        )
        return em, sum(self._call_cost[name] for name in route)

    def _routes(self, domains: tuple[str, ...]) -> list[tuple[str, ...]]:
        return list(itertools.product(self._llms, repeat=len(domains)))

    def random_routing(self) -> Expectation:
        """Every hop asks an LLM drawn uniformly."""
        parts = []
        for question in self._questions:
            values = [self._route(question.domains, r) for r in self._routes(question.domains)]
            em, cost = np.mean(values, axis=0)
            parts.append((float(em), float(cost), float(len(question.hops))))
        return Expectation.mean(parts)

    def single(self, llm: str) -> Expectation:
        """Every hop asks ``llm``."""
        parts = [
            (*self._route(q.domains, (llm,) * len(q.hops)), float(len(q.hops)))
            for q in self._questions
        ]
        return Expectation.mean(parts)

    def best_single(self) -> tuple[str, Expectation]:
        """The LLM with the highest EM when it gets every call."""
        return max(((n, self.single(n)) for n in self._llms), key=lambda pair: pair[1].em)

    def best_route(self, domains: tuple[str, ...], cost_coe: float) -> tuple[str, ...]:
        """The route with the highest expected reward ``em * ((1 - a) + a * c)``, a = cost_coe.

        The cost reward c is that of :attr:`scale`; a tie goes to the cheaper route.
        """

        def value(route: tuple[str, ...]) -> tuple[float, float]:
            em, cost = self._route(domains, route)
            return em * ((1.0 - cost_coe) + cost_coe * self.scale.reward(cost)), -cost

        return max(self._routes(domains), key=value)

    def oracle(self, cost_coe: float = 0.0) -> Expectation:
        """Every hop asks the LLM that the best route names."""
        parts = []
        routes: dict[tuple[str, ...], tuple[str, ...]] = {}
        for question in self._questions:
            domains = question.domains
            if domains not in routes:
                routes[domains] = self.best_route(domains, cost_coe)
            parts.append((*self._route(domains, routes[domains]), float(len(domains))))
        return Expectation.mean(parts)
