"""Expected EM and cost of routers that the world's own numbers determine, in closed form.

A router here asks, for each hop of a question, one LLM; its answer is right when every hop is.
Wrong names share no word with right ones, so the expected F1 equals the expected EM.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    def mean(parts: Iterable[Sequence[float]]) -> Expectation:
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
        prices: LLM name to $ per 1M completion tokens, from the pool file.
        questions: those the means are taken over.
        weighing: by which the best route is chosen; expectations keep the unit of ``prices``.
        offered: $ per 1M completion tokens of each LLM that a question is offered, for each
            question; prompt prices differ from the pool file's by the same factor. None offers all
            to each, at ``prices``.
    """

    def __init__(
        self,
        world: World,
        prices: Mapping[str, float],
        questions: Sequence[Question],
        weighing: Weighing = Weighing(),
        offered: Sequence[Mapping[str, float]] | None = None,
    ) -> None:
        self.questions = questions
        self._llms = world.llms
        # Factors on the costs below, by the LLMs that there are for a question.
        self._everyone = dict.fromkeys(world.llms, 1.0)
        self._offered = [self._everyone] * len(questions)
        if offered is not None:
            self._offered = [
                {name: price / prices[name] if prices[name] else 1.0 for name, price in own.items()}
                for own in offered
            ]
        self._call_cost = {
            name: llm.mean_completion_tokens() * prices[name] for name, llm in world.llms.items()
        }
        self._weighing = weighing
        self._rewarded_cost = {
            name: cost + _QUERY_TOKENS * weighing.prompt_prices.get(name, 0.0)
            for name, cost in self._call_cost.items()
        }
        self._seconds = {
            name: weighing.time_scale * sum(llm.latency_s) / 2 for name, llm in world.llms.items()
        }

    @cached_property
    def scale(self) -> CostScale:
        """By which costs are rewarded."""
        return self._weighing.scales.cost or self._scale_of_random_routing(
            self._rewarded_cost, self._offered
        )

    @cached_property
    def latency_scale(self) -> CostScale:
        """By which seconds are rewarded."""
        return self._weighing.scales.latency or self._scale_of_random_routing(
            self._seconds, [dict.fromkeys(factors, 1.0) for factors in self._offered]
        )

    def _scale_of_random_routing(
        self, of_call: Mapping[str, float], factors: Sequence[Mapping[str, float]]
    ) -> CostScale:
        """Over what each question costs by each of its routes; every question weighs the same."""
        counts = Counter(
            (question.domains, tuple(sorted(own.items())))
            for question, own in zip(self.questions, factors, strict=True)
        )
        longest = max(len(domains) for domains, _ in counts)
        roots: list[float] = []
        for (domains, items), count in counts.items():
            own = dict(items)
            weight = count * len(own) ** (longest - len(domains))
            for route in itertools.product(own, repeat=len(domains)):
                roots += [root_of(sum(of_call[name] * own[name] for name in route))] * weight
        return CostScale.over(roots)

    def _route(
        self, domains: tuple[str, ...], route: tuple[str, ...], factors: Mapping[str, float]
    ) -> tuple[float, float, int]:
        """Expected EM, cost and calls of asking ``route[i]`` for hop i."""
        em = math.prod(
            self._llms[name].reliability[domain]
            for name, domain in zip(route, domains, strict=True)
        )
        return em, sum(self._call_cost[name] * factors[name] for name in route), len(route)

    def random_routing(self) -> Expectation:
        """Every hop asks an LLM drawn uniformly from those offered."""
        parts = []
        for question, factors in zip(self.questions, self._offered, strict=True):
            routes = itertools.product(factors, repeat=len(question.hops))
            values = [self._route(question.domains, route, factors) for route in routes]
            parts.append(np.mean(values, axis=0))
        return Expectation.mean(parts)

    def single(self, llm: str) -> Expectation:
        """Every hop asks ``llm``, at the pool's prices, whoever is offered."""
        return Expectation.mean(
            self._route(q.domains, (llm,) * len(q.hops), self._everyone) for q in self.questions
        )

    def best_single(self) -> tuple[str, Expectation]:
        """The LLM with the highest EM when it gets every call."""
        return max(((n, self.single(n)) for n in self._llms), key=lambda pair: pair[1].em)

    def best_route(
        self,
        domains: tuple[str, ...],
        cost_coe: float,
        factors: Mapping[str, float] | None = None,
    ) -> tuple[str, ...]:
        """The route with the highest expected reward: EM times what a right answer earns.

        Since EM is 0 or 1, that is the same for each form of the reward. Cost and latency are
        rewarded by :attr:`scale` and :attr:`latency_scale`; a tie goes to the cheaper route.
        ``factors`` on the pool's prices are of the LLMs that are offered; None for all, at 1.
        """
        offered, latency_coe = factors or self._everyone, self._weighing.latency_coe

        def value(route: tuple[str, ...]) -> tuple[float, float]:
            em = self._route(domains, route, offered)[0]
            cost = sum(self._rewarded_cost[name] * offered[name] for name in route)
            seconds = sum(self._seconds[name] for name in route)
            fast = self.latency_scale.reward(seconds) if latency_coe else 0.0
            thrift = self.scale.reward(cost)
            return em * combine(0.0, 1.0, thrift, cost_coe, fast, latency_coe), -cost

        return max(itertools.product(offered, repeat=len(domains)), key=value)

    def oracle(self, cost_coe: float = 0.0, among: Sequence[bool] | None = None) -> Expectation:
        """Every hop asks the LLM that the best route names.

        The means are over the questions that ``among`` marks, (N,); None takes all N.
        """
        parts = []
        chosen = [True] * len(self.questions) if among is None else among
        routes: dict[tuple[object, ...], tuple[str, ...]] = {}
        asked = zip(self.questions, self._offered, strict=True)
        for question, factors in itertools.compress(asked, chosen):
            key = question.domains, *sorted(factors.items())
            if key not in routes:
                routes[key] = self.best_route(question.domains, cost_coe, factors)
            parts.append(self._route(question.domains, routes[key], factors))
        return Expectation.mean(parts)
