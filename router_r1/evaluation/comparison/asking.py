"""Asks the pool what baselines learn from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from router_r1.evaluation.baselines.contest import Ask, TrainingSet
from router_r1.evaluation.baselines.embedding import Embedder
from router_r1.evaluation.baselines.extraction import extract_short_answer
from router_r1.evaluation.comparison.questions import Question
from router_r1.pool.outcome import CallResult
from router_r1.reward.outcome import f1_score
from verl.errors import UserError


class SilentPoolError(UserError):
    """No LLM answered any training question."""


def limited(ask: Ask, in_flight: int = 64) -> Ask:
    """``ask``, so many calls at once over all LLMs: the others' time limits have not begun."""
    places = asyncio.Semaphore(in_flight)

    async def ask_in_turn(llm: str, query: str) -> CallResult:
        async with places:
            return await ask(llm, query)

    return ask_in_turn


async def collect_outcomes(
    questions: Sequence[Question],
    llms: Sequence[str],
    ask: Ask,
    embedder: Embedder,
    on_call: Callable[[], None],
) -> TrainingSet:
    """Asks every LLM every training question.

    Quality is F1 rather than EM: on long free replies EM is 0 for all and teaches nothing.

    Raises:
        SilentPoolError: if every call failed.
    """

    async def one(question: Question, llm: str) -> CallResult:
        result = await ask(llm, question.prompt.text)
        on_call()
        return result

    flat = await asyncio.gather(*(one(question, llm) for question in questions for llm in llms))
    shape = (len(questions), len(llms))
    answered = np.array([result.text is not None for result in flat]).reshape(shape)
    if not answered.any():
        outcomes = ", ".join(sorted({result.outcome.value for result in flat}))
        raise SilentPoolError(
            f"none of {len(flat)} calls for training questions brought a reply ({outcomes}); "
            "check the pool's endpoint and key"
        )
    golds = [question.golden_answers for question in questions for _ in llms]
    quality = [
        f1_score(extract_short_answer(result.text), gold) if result.text is not None else 0.0
        for result, gold in zip(flat, golds, strict=True)
    ]
    cost = np.array([result.cost for result in flat]).reshape(shape)
    prompts = [question.prompt for question in questions]
    embedder.fit([prompt.text for prompt in prompts])
    return TrainingSet(
        prompts,
        list(llms),
        np.array(quality).reshape(shape),
        np.where(answered, cost, cost[answered].max()),
        embedder,
    )
