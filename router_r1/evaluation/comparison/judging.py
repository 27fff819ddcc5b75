"""From what a baseline played to a scored record, in the columns of a router's evaluation."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from router_r1.evaluation.baselines.contest import Ask, Contestant, Played
from router_r1.evaluation.comparison.questions import Question
from router_r1.reward.outcome import exact_match, f1_score
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trajectory import TrajectoryStatus


async def judge(
    contestant: Contestant,
    questions: Sequence[Question],
    ask: Ask,
    on_answer: Callable[[], None],
    normalization: str = "paper",
) -> list[EvaluationRecord[Played]]:
    """One scored record per question, in order; ``normalization`` is that of the answers."""

    async def one(question: Question) -> EvaluationRecord[Played]:
        played = await contestant.answer(question.prompt, ask)
        on_answer()
        return to_record(question, played, normalization)

    return list(await asyncio.gather(*(one(question) for question in questions)))


def to_record(
    question: Question, played: Played, normalization: str = "paper"
) -> EvaluationRecord[Played]:
    """Costs are sums over the calls; a question whose calls all failed has failed."""
    answered = [call for call in played.calls if call.result.text is not None]
    status = TrajectoryStatus.ANSWERED if answered else TrajectoryStatus.FAILED
    cost = sum(call.result.cost for call in played.calls)
    dollars = sum(call.result.dollars for call in played.calls)
    turns = len({call.turn for call in played.calls})
    by_llm = Counter(call.result.llm for call in played.calls)
    return EvaluationRecord(
        uid=question.uid,
        sample_index=0,
        data_source=question.prompt.data_source,
        question=question.prompt.text,
        ground_truth=question.golden_answers,
        status=status.value,
        trajectory=played,
        scores={
            "em": exact_match(played.answer, question.golden_answers, normalization),
            "f1": f1_score(played.answer, question.golden_answers, normalization),
            "cost": cost,
            "dollars": dollars,
            "route_cnt": float(len(answered)),
            "failed_calls": float(len(played.calls) - len(answered)),
            "num_turns": float(turns),
            **{f"calls/{llm}": float(count) for llm, count in by_llm.items()},
        },
    )
