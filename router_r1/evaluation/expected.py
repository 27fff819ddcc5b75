"""Rows of the embedded world that its own numbers determine, without a call."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from router_r1.evaluation.comparison import Means, Row, computed_row
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.world.dataset import data_source
from router_r1.world.knowledge import Question
from router_r1.world.oracle import Expectation, Oracle
from router_r1.world.simulated_llm import World

Route = tuple[str, ...]


def per_hop_rows(world: World, pool: PoolConfig, questions: Sequence[Question]) -> list[Row]:
    """Random, best single LLM and oracle when every hop is asked on its own."""
    groups = _by_source(questions)
    oracles = {s: Oracle(world, pool.prices(), group) for s, group in groups.items()}
    whole = Oracle(world, pool.prices(), questions)
    llms = list(world.llms)
    best = whole.best_single()[0]

    def row(
        name: str,
        kind: str,
        expect: Callable[[Oracle], Expectation],
        routes: Callable[[Question], Iterable[Route]],
    ) -> Row:
        cells = {}
        for source, group in groups.items():
            e = expect(oracles[source])
            prompt = np.mean([_prompt_price(pool, q, routes(q)) for q in group])
            cells[source] = Means(e.em, e.f1, e.cost, (e.cost + float(prompt)) / 1e6, e.calls)
        return computed_row(name, kind, cells)

    return [
        row(
            "random (per hop, expected)",
            "random",
            Oracle.random_routing,
            lambda q: itertools.product(llms, repeat=len(q.hops)),
        ),
        row(
            f"{best} (per hop, expected)",
            "single",
            lambda oracle: oracle.single(best),
            lambda q: [(best,) * len(q.hops)],
        ),
        row(
            "oracle (expected)",
            "oracle",
            Oracle.oracle,
            lambda q: [whole.best_route(q.domains, 0.0)],
        ),
    ]


def single_shot_row(world: World, pool: PoolConfig, questions: Sequence[Question]) -> Row:
    """The best that a router can do which asks one LLM the whole question."""
    cells = {}
    for source, group in _by_source(questions).items():
        parts = []
        for question in group:
            em, llm = max(
                (math.prod(llm.reliability[d] for d in question.domains), name)
                for name, llm in world.llms.items()
            )
            cost = world.llms[llm].mean_completion_tokens() * _llm(pool, llm).completion_price
            prompt = len(question.text.split()) * _llm(pool, llm).prompt_price
            parts.append((em, cost, (cost + prompt) / 1e6))
        em, cost, dollars = np.mean(parts, axis=0).tolist()
        cells[source] = Means(em, em, cost, dollars, 1.0)
    return computed_row("single-shot oracle (expected)", "oracle", cells)


def _prompt_price(pool: PoolConfig, question: Question, routes: Iterable[Route]) -> float:
    """Mean over the routes of prompt tokens x $ per 1M; the world bills a query's words."""
    return float(
        np.mean(
            [
                sum(
                    len(hop.query.split()) * _llm(pool, llm).prompt_price
                    for hop, llm in zip(question.hops, route, strict=True)
                )
                for route in routes
            ]
        )
    )


def _by_source(questions: Sequence[Question]) -> dict[str, list[Question]]:
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(data_source(question), []).append(question)
    return groups


def _llm(pool: PoolConfig, name: str) -> LLMConfig:
    llm = pool.resolve(name)
    assert llm is not None
    return llm
