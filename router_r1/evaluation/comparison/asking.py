"""Asks the pool for all baselines.

Guarantees: an LLM gets a query once in a comparison, however many baselines ask it; every baseline
that asks is charged the call as if it had been alone; calls end as
:class:`~router_r1.pool.outcome.Outcome` says, none raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from router_r1.evaluation.baselines.contest import TrainingSet
from router_r1.evaluation.baselines.embedding import Embedder
from router_r1.evaluation.baselines.extraction import extract_short_answer
from router_r1.evaluation.comparison.questions import Question
from router_r1.pool.client import PoolClient
from router_r1.pool.outcome import CallResult
from router_r1.reward.outcome import f1_score
from verl.errors import UserError


class SilentPoolError(UserError):
    """No LLM answered any training question."""


class SharedAsker:
    """The pool as baselines see it.

    Args:
        client: the pool's, on the running loop.
        in_flight: calls at once, over all LLMs.
    """

    def __init__(self, client: PoolClient, in_flight: int = 64) -> None:
        self._client = client
        self._places = asyncio.Semaphore(in_flight)
        self._calls: dict[tuple[str, str], asyncio.Task[CallResult]] = {}

    async def ask(self, llm: str, query: str) -> CallResult:
        """What ``llm`` replies to ``query``."""
        key = (llm, query)
        if key not in self._calls:
            self._calls[key] = asyncio.create_task(self._send(llm, query))
        return await asyncio.shield(self._calls[key])

    async def _send(self, llm: str, query: str) -> CallResult:
        async with self._places:
            return await self._client.ask(llm, query)


async def collect_outcomes(
    questions: Sequence[Question],
    llms: Sequence[str],
    asker: SharedAsker,
    embedder: Embedder,
    on_call: Callable[[], None],
) -> TrainingSet:
    """Asks every LLM every training question.

    Quality is F1 rather than EM: on long free replies EM is 0 for all and teaches nothing.

    Raises:
        SilentPoolError: if every call failed.
    """

    async def one(question: Question, llm: str) -> CallResult:
        result = await asker.ask(llm, question.prompt.text)
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
