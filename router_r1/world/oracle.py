"""Expected EM and cost of routers that the world's own numbers determine, in closed form.

A router here asks, for each hop of a question, one LLM; its answer is right when every hop is.
Wrong names share no word with right ones, so the expected F1 equals the expected EM.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from router_r1.reward.cost import CostScale, RewardScales, root_of
from router_r1.reward.joined import combine
from router_r1.world.knowledge import Question
from router_r1.world.llms import visible_tokens
from router_r1.world.simulated_llm import World

_QUERY_TOKENS = visible_tokens("the x of x x")  # of every hop's query


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


@dataclass(frozen=True)
class Weighing:
    """What a run's reward weighs beside the answer, other than by ``cost_coe``.

    Attributes:
        scales: by which costs and seconds are rewarded; None takes those of random routing.
        prompt_prices: LLM name to $ per 1M prompt tokens, where the reward's unit of cost is
            dollars; {} where it leaves prompts out.
        latency_coe: weight of the seconds.
        time_scale: factor on the world's latencies.
    """

    scales: RewardScales = field(default_factory=RewardScales)
    prompt_prices: Mapping[str, float] = field(default_factory=dict)
    latency_coe: float = 0.0
    time_scale: float = 1.0


class Oracle:
    """Knows every reliability, price and latency.

    Args:
        world: the world.
        prices: LLM name to $ per 1M completion tokens, from the pool file.
        questions: those the means are taken over.
        weighing: by which the best route is chosen; expectations keep the unit of ``prices``.
        offered: the LLMs that each question is offered; None offers all to each.
    """

    def __init__(
        self,
        world: World,
        prices: Mapping[str, float],
        questions: Sequence[Question],
        weighing: Weighing | None = None,
        offered: Sequence[tuple[str, ...]] | None = None,
    ) -> None:
        self._llms = world.llms
        everyone = tuple(world.llms)
        self._offered = list(offered) if offered is not None else [everyone] * len(questions)
        self._call_cost = {
            name: llm.mean_completion_tokens() * prices[name] for name, llm in world.llms.items()
        }
        self._weighing = weighing = weighing or Weighing()
        self._rewarded_cost = {
            name: cost + _QUERY_TOKENS * weighing.prompt_prices.get(name, 0.0)
            for name, cost in self._call_cost.items()
        }
        self._seconds = {
            name: weighing.time_scale * sum(llm.latency_s) / 2 for name, llm in world.llms.items()
        }
        self._questions = questions

    @cached_property
    def scale(self) -> CostScale:
        """By which costs are rewarded."""
        return self._weighing.scales.cost or self._scale_of_random_routing(self._rewarded_cost)

    @cached_property
    def latency_scale(self) -> CostScale:
        """By which seconds are rewarded."""
        return self._weighing.scales.latency or self._scale_of_random_routing(self._seconds)

    def _scale_of_random_routing(self, of_call: Mapping[str, float]) -> CostScale:
        """Over what each question costs by each of its routes; every question weighs the same."""
        counts = Counter(question.domains for question in self._questions)
        longest = max(map(len, counts))
        roots: list[float] = []
        for domains, count in counts.items():
            weight = count * len(self._llms) ** (longest - len(domains))
            for route in self._routes(domains):
                roots += [root_of(sum(of_call[name] for name in route))] * weight
        return CostScale.over(roots)

    def _route(self, domains: tuple[str, ...], route: tuple[str, ...]) -> tuple[float, float]:
        """Expected EM and cost of asking ``route[i]`` for hop i."""
        em = math.prod(
            self._llms[name].reliability[domain]
            for name, domain in zip(route, domains, strict=True)
        )
        return em, sum(self._call_cost[name] for name in route)

    def _routes(
        self, domains: tuple[str, ...], offered: tuple[str, ...] | None = None
    ) -> list[tuple[str, ...]]:
        return list(itertools.product(offered or self._llms, repeat=len(domains)))

    def random_routing(self) -> Expectation:
        """Every hop asks an LLM drawn uniformly from those offered."""
        parts = []
        for question, offered in zip(self._questions, self._offered, strict=True):
            routes = self._routes(question.domains, offered)
            values = [self._route(question.domains, route) for route in routes]
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

    def best_route(
        self,
        domains: tuple[str, ...],
        cost_coe: float,
        offered: tuple[str, ...] | None = None,
    ) -> tuple[str, ...]:
        """The route with the highest expected reward: EM times what a right answer earns.

        Of the LLMs ``offered``, or of all.
        Since EM is 0 or 1, that is the same for each form of the reward. Cost and latency are
        rewarded by :attr:`scale` and :attr:`latency_scale`; a tie goes to the cheaper route.
        """
        latency_coe = self._weighing.latency_coe

        def value(route: tuple[str, ...]) -> tuple[float, float]:
            em, _ = self._route(domains, route)
            cost = sum(self._rewarded_cost[name] for name in route)
            seconds = sum(self._seconds[name] for name in route)
            fast = self.latency_scale.reward(seconds) if latency_coe else 0.0
            return em * combine(
                0.0, 1.0, self.scale.reward(cost), cost_coe, fast, latency_coe
            ), -cost

        return max(self._routes(domains, offered), key=value)

    @property
    def num_questions(self) -> int:
        """How many the means are taken over."""
        return len(self._questions)

    def oracle(self, cost_coe: float = 0.0, among: Sequence[bool] | None = None) -> Expectation:
        """Every hop asks the LLM that the best route names.

        Args:
            cost_coe: weight of the cost.
            among: which of the questions the means are taken over; None for all.
        """
        parts = []
        chosen = [True] * len(self._questions) if among is None else among
        routes: dict[tuple[tuple[str, ...], frozenset[str]], tuple[str, ...]] = {}
        for question, offered, counts in zip(self._questions, self._offered, chosen, strict=True):
            if not counts:
                continue
            domains = question.domains
            key = domains, frozenset(offered)
            if key not in routes:
                routes[key] = self.best_route(domains, cost_coe, offered)
            parts.append((*self._route(domains, routes[key]), float(len(domains))))
        return Expectation.mean(parts)
