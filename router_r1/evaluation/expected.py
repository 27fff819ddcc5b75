"""Rows of the embedded world that its own numbers determine, without a call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from router_r1.evaluation.comparison import Means, Row, computed_row
from router_r1.pool.config import PoolConfig
from router_r1.world.dataset import data_source
from router_r1.world.knowledge import Question
from router_r1.world.oracle import Expectation, Oracle
from router_r1.world.simulated_llm import World


def per_hop_rows(world: World, pool: PoolConfig, questions: Sequence[Question]) -> list[Row]:
    """Random, best single LLM and oracle when every hop is asked on its own.

    The world bills a query's words as its prompt.
    """
    whole = Oracle(world, pool.prices(), questions)
    best = whole.best_single()[0]
    prices = {llm.name: llm.prompt_price for llm in pool.llms}
    mean_price = float(np.mean([prices[llm] for llm in world.llms]))
    # Name and kind of the row, what its router expects, and the prompt's price of each hop.
    routers: Sequence[
        tuple[str, str, Callable[[Oracle], Expectation], Callable[[Question], Sequence[float]]]
    ] = (
        (
            "random (per hop, expected)",
            "random",
            Oracle.random_routing,
            lambda question: [mean_price] * len(question.hops),
        ),
        (
            f"{best} (per hop, expected)",
            "single",
            lambda oracle: oracle.single(best),
            lambda question: [prices[best]] * len(question.hops),
        ),
        (
            "oracle (expected)",
            "oracle",
            Oracle.oracle,
            lambda question: [prices[llm] for llm in whole.best_route(question.domains, 0.0)],
        ),
    )
    groups = _by_source(questions)
    oracles = {source: Oracle(world, pool.prices(), group) for source, group in groups.items()}
    rows = []
    for name, kind, expect, hop_prices in routers:
        means = {}
        for source, group in groups.items():
            e = expect(oracles[source])
            prompt = np.mean(
                [np.dot([len(h.query.split()) for h in q.hops], hop_prices(q)) for q in group]
            )
            means[source] = Means(e.em, e.f1, e.cost, (e.cost + float(prompt)) / 1e6, e.calls)
        rows.append(computed_row(name, kind, means))
    return rows


def single_shot_row(world: World, pool: PoolConfig, questions: Sequence[Question]) -> Row:
    """The best that a router can do which asks one LLM the whole question."""
    members = {llm.name: llm for llm in pool.llms}
    means = {}
    for source, group in _by_source(questions).items():
        parts = []
        for question in group:
            em, llm = max(
                (math.prod(llm.reliability[d] for d in question.domains), name)
                for name, llm in world.llms.items()
            )
            cost = world.llms[llm].mean_completion_tokens() * members[llm].completion_price
            prompt = len(question.text.split()) * members[llm].prompt_price
            parts.append((em, cost, (cost + prompt) / 1e6))
        em, cost, dollars = np.mean(parts, axis=0).tolist()
        means[source] = Means(em, em, cost, dollars, 1.0)
    return computed_row("single-shot oracle (expected)", "oracle", means)


def _by_source(questions: Sequence[Question]) -> dict[str, list[Question]]:
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(data_source(question), []).append(question)
    return groups
