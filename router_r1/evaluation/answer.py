"""A baseline's answer to a question: the calls behind it, and the scored record made of it.

Guarantees: an answer's cost is the sum of its calls; an LLM gets a query once in a comparison,
however many baselines ask it, and each that asks is charged the call as if it had been alone; calls
end as :class:`~router_r1.pool.outcome.Outcome` says, none raises.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from router_r1.evaluation.benchmark import Question
from router_r1.pool.client import PoolClient
from router_r1.pool.outcome import CallResult
from router_r1.reward.outcome import exact_match, f1_score
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trajectory import TrajectoryStatus

Ask = Callable[[str, str], Awaitable[CallResult]]  # of an LLM's name and a query

_SENTENCE_END = re.compile(r"(?<=[a-z0-9)\]\"'][.!?])\s+|\n+")
_LINKING_VERB = re.compile(r"\s(?:is|are|was|were):?\s+")
_TRIMMED = " \t\n.!?*\"'"


@dataclass(frozen=True)
class Call:
    """One call of a baseline; calls of one ``turn`` were made at once."""

    turn: int
    query: str
    result: CallResult


@dataclass(frozen=True)
class Answer:
    """What a baseline answers to one question; ``text`` is empty if no call brought an answer."""

    text: str
    calls: list[Call]


class SharedCalls:
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


def extract_short_answer(reply: str) -> str:
    """The short answer in an LLM's reply, by the one rule that every baseline follows.

    Of the sentences of the reply, take the last one with a linking verb (is, are, was, were); what
    stands behind that verb is the answer. A reply without one is the answer as a whole. White space
    and closing punctuation are dropped. An initial ("J. R. R.") does not end a sentence.
    """
    for sentence in reversed(_SENTENCE_END.split(reply.strip())):
        parts = _LINKING_VERB.split(sentence)
        if len(parts) > 1:
            return parts[-1].strip(_TRIMMED)
    return reply.strip(_TRIMMED)


def to_record(question: Question, answer: Answer, normalization: str = "paper") -> EvaluationRecord:
    """In the columns of a router's evaluation; a question whose calls all failed has failed.

    ``normalization`` is that of the answers.
    """
    results = [call.result for call in answer.calls]
    answered = sum(result.text is not None for result in results)
    status = TrajectoryStatus.ANSWERED if answered else TrajectoryStatus.FAILED
    figures = {
        "num_turns": len({call.turn for call in answer.calls}),
        "failed_calls": len(results) - answered,
        "cost": sum(result.cost for result in results),
        "dollars": sum(result.dollars for result in results),
    }
    golden = question.golden_answers
    by_llm = Counter(result.llm for result in results)
    return EvaluationRecord(
        uid=question.uid,
        sample_index=0,
        data_source=question.prompt.data_source,
        question=question.prompt.text,
        ground_truth=golden,
        status=status.value,
        extras={
            "answer": answer.text,
            "finished": int(bool(answered)),
            "routed_calls": answered,
            **figures,
            "calls": [_call(call) for call in answer.calls],
        },
        scores={
            "em": exact_match(answer.text, golden, normalization),
            "f1": f1_score(answer.text, golden, normalization),
            "route_cnt": float(answered),
            **{name: float(value) for name, value in figures.items()},
            **{f"calls/{llm}": float(count) for llm, count in by_llm.items()},
        },
    )


def _call(call: Call) -> dict[str, Any]:
    """As the routing loop reports it."""
    result = asdict(call.result)
    names = {"turn": call.turn, "query": call.query, "reply": result.pop("text")}
    return {**names, **result, "outcome": call.result.outcome.value}
