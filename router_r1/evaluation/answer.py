"""A baseline's answer to a question: the calls behind it, and the scored record made of it.

Guarantees: an answer's cost is the sum of its calls.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from router_r1.evaluation.benchmark import Question, seconds_waited
from router_r1.llm_agent.trajectory import QuestionRecord
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
class Answer(QuestionRecord):
    """What a baseline answers to one question; ``text`` is empty if no call brought an answer."""

    text: str
    calls: list[Call]


def limited(ask: Ask) -> Ask:
    """``ask``, 64 calls at once over all LLMs: the others' time limits have not begun."""
    places = asyncio.Semaphore(64)

    async def ask_in_turn(llm: str, query: str) -> CallResult:
        async with places:
            return await ask(llm, query)

    return ask_in_turn


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


def to_record(
    question: Question, answer: Answer, normalization: str = "paper"
) -> EvaluationRecord[Answer]:
    """In the columns of a router's evaluation; a question whose calls all failed has failed."""
    golden, results = question.golden_answers, [call.result for call in answer.calls]
    answered = sum(result.text is not None for result in results)
    return EvaluationRecord(
        uid=question.uid,
        sample_index=0,
        data_source=question.prompt.data_source,
        prompt=question.prompt.text,
        ground_truth=golden,
        status=(TrajectoryStatus.ANSWERED if answered else TrajectoryStatus.FAILED).value,
        trajectory=answer,
        scores={
            "em": exact_match(answer.text, golden, normalization),
            "f1": f1_score(answer.text, golden, normalization),
            "cost": sum(result.cost for result in results),
            "dollars": sum(result.dollars for result in results),
            "route_cnt": float(answered),
            "failed_calls": float(len(results) - answered),
            "num_turns": float(len({call.turn for call in answer.calls})),
            "latency_s": seconds_waited((c.turn, c.result.latency_s) for c in answer.calls),
            **Counter(f"calls/{result.llm}" for result in results),
        },
    )
