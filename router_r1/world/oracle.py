"""Expected EM and cost of routers that the world's own numbers determine, in closed form.

A router here asks, for each hop of a question, one LLM; its answer is right when every hop is.
Wrong names share no word with right ones, so the expected F1 equals the expected EM.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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
    """

    def __init__(
        self, world: World, prices: Mapping[str, float], questions: Sequence[Question]
    ) -> None:
        self._llms = world.llms
        self._call_cost = {
            name: llm.mean_completion_tokens() * prices[name] for name, llm in world.llms.items()
        }
        self._questions = questions

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

        The cost reward c is ``1 - clip((sqrt(cost) - low) / (high - low), 0, 1)`` between the 5th
        and 95th percentiles of sqrt(cost) under random routing; a tie goes to the cheaper route.
        """
        low, high = self._cost_percentiles

        def value(route: tuple[str, ...]) -> tuple[float, float]:
            em, cost = self._route(domains, route)
            cost_reward = 1.0 - min(1.0, max(0.0, (math.sqrt(cost) - low) / (high - low)))
            return em * ((1.0 - cost_coe) + cost_coe * cost_reward), -cost

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

    @property
    def _cost_percentiles(self) -> tuple[float, float]:
        roots = [
            math.sqrt(self._route(d, route)[1])
            for d in sorted({q.domains for q in self._questions})
            for route in self._routes(d)
        ]
        low, high = np.percentile(roots, [5, 95])
        return float(low), float(high)
