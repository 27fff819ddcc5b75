"""A judge LLM in place of exact match: it says whether an answer means what a gold answer means.

    router-r1 train reward.function=examples.judge.judge:JudgeLLM \\
        'reward.function_args={pool: mine, llm: gpt-4o-mini}'

The judge is asked as the pool's LLMs are, with their limits, retries and recording, by a client of
its own: what it costs is not the trajectory's, and its ``budget_usd`` is that of its own pool file.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.client import PoolClient
from router_r1.pool.loading import load_pool
from router_r1.pool.outcome import Outcome
from verl.config.validation import ConfigError

_INSTRUCTION = (
    "You compare a student's answer with the accepted answers of a quiz. Say yes if it means the "
    "same as one of them, else no. Write that one word only."
)

logger = logging.getLogger(__name__)


class JudgeLLM:
    """Implements :data:`router_r1.reward.outcome_function.OutcomeFunction`.

    Args:
        pool: name or path of the pool file that holds the judge.
        llm: its name there.
        api_base: its endpoint; None takes the pool file's.

    Raises:
        ConfigError: if the pool has no such LLM.
    """

    def __init__(self, pool: str, llm: str, api_base: str | None = None) -> None:
        found = load_pool(pool)
        if found.resolve(llm) is None:
            names = ", ".join(known.name for known in found.llms)
            raise ConfigError(
                f"reward.function_args.llm={llm!r} is not in pool {found.name!r}; choose one of: "
                f"{names}"
            )
        self._llm = llm
        base = api_base or found.api_base
        self._pool = replace(found, instruction=_INSTRUCTION, api_base=base)
        self._spent_usd = 0.0

    def __call__(
        self, trajectories: Sequence[RoutedTrajectory], golden_answers: Sequence[list[str]]
    ) -> list[float]:
        """1 for each answer that the judge accepts; 0 for one that it does not, or cannot judge."""
        return asyncio.run(self._judge_all(trajectories, golden_answers))

    async def _judge_all(
        self, trajectories: Sequence[RoutedTrajectory], golden_answers: Sequence[list[str]]
    ) -> list[float]:
        client = PoolClient(self._pool)  # of this event loop
        client.budget.spent_usd = self._spent_usd
        try:
            asked = [
                self._judge(client, trajectory.answer, gold)
                for trajectory, gold in zip(trajectories, golden_answers, strict=True)
            ]
            verdicts = await asyncio.gather(*asked)
        finally:
            self._spent_usd = client.budget.spent_usd
            await client.close()
        failed = Counter(verdict.value for verdict in verdicts if isinstance(verdict, Outcome))
        if failed:
            logger.warning("the judge did not answer, which counts as wrong: %s", dict(failed))
        return [float(verdict is True) for verdict in verdicts]

    async def _judge(
        self, client: PoolClient, answer: str | None, gold: list[str]
    ) -> bool | Outcome:
        """The verdict, or why there is none."""
        if not answer:
            return False
        query = f"Accepted answers: {' | '.join(gold)}\nStudent's answer: {answer}"
        result = await client.ask(self._llm, query)
        if result.outcome is not Outcome.OK:
            return result.outcome
        return str(result.text).strip().lower().startswith("yes")
