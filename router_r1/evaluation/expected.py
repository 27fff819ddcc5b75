"""Rows of the embedded world that its own numbers determine, without a call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from router_r1.evaluation.comparison import Means, Row, computed_row
from router_r1.pool.config import PoolConfig
from router_r1.world.dataset import data_source
from router_r1.world.knowledge import Question
from router_r1.world.oracle import Expectation, Oracle
from router_r1.world.simulated_llm import World

_Group = Sequence[Question]


def expected_rows(world: World, pool: PoolConfig, questions: Sequence[Question]) -> list[Row]:
    """Random, best single LLM and oracle when every hop is asked on its own, and the best that a
    router can do which asks one LLM the whole question.

    The world bills a query's words as its prompt.
    """
    whole = Oracle(world, pool.prices(), questions)
    best = whole.best_single()[0]
    prices = pool.prompt_prices()
    mean_price = fmean(prices[name] for name in world.llms)

    def per_hop(
        expect: Callable[[Oracle], Expectation], hop_prices: Callable[[Question], Sequence[float]]
    ) -> Callable[[_Group], Means]:
        def means(group: _Group) -> Means:
            e = expect(Oracle(world, pool.prices(), group))
            words = ([len(hop.query.split()) for hop in q.hops] for q in group)
            prompts = [np.dot(w, hop_prices(q)) for w, q in zip(words, group, strict=True)]
            return Means(e.em, e.f1, e.cost, (e.cost + float(np.mean(prompts))) / 1e6, e.calls)

        return means

    def single_shot(group: _Group) -> Means:
        parts = []
        for question in group:
            em, name = max(
                (math.prod(llm.reliability[d] for d in question.domains), name)
                for name, llm in world.llms.items()
            )
            cost = world.llms[name].mean_completion_tokens() * pool.prices()[name]
            parts.append((em, cost, (cost + len(question.text.split()) * prices[name]) / 1e6))
        em, cost, dollars = np.mean(parts, axis=0).tolist()
        return Means(em, em, cost, dollars, 1.0)

    oracle = per_hop(Oracle.oracle, lambda q: [prices[n] for n in whole.best_route(q.domains, 0.0)])
    single = per_hop(lambda oracle: oracle.single(best), lambda q: [prices[best]] * len(q.hops))
    at_random = per_hop(Oracle.random_routing, lambda q: [mean_price] * len(q.hops))
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(data_source(question), []).append(question)
    return [
        computed_row(name, kind, {source: means(group) for source, group in groups.items()})
        for name, kind, means in (
            ("random (per hop, expected)", "random", at_random),
            (f"{best} (per hop, expected)", "single", single),
            ("oracle (expected)", "oracle", oracle),
            ("single-shot oracle (expected)", "oracle", single_shot),
        )
    ]
