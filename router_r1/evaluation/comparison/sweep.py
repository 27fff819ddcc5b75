"""The routers of a sweep of ``cost_coe``, and what each step of it changes in cost.

Guarantees: a change is taken question by question, so that questions which cost both routers the
same leave no doubt in its interval; samples of one question are averaged first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from router_r1.evaluation.comparison.rows import SweepPoint, measured_row
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.evaluation.summary import Estimate, summarise


def sweep_points(evaluations: Mapping[float, Sequence[EvaluationRecord]]) -> list[SweepPoint]:
    """From scored records of the same questions by ``cost_coe``; the least ``cost_coe`` first."""
    cost_coes = sorted(evaluations)
    changes = [
        cost_change(evaluations[less], evaluations[more]) for less, more in pairwise(cost_coes)
    ]
    return [
        SweepPoint(cost_coe, measured_row("", "router", evaluations[cost_coe]).total, change)
        for cost_coe, change in zip(cost_coes, [None, *changes], strict=False)
    ]


def cost_change(before: Sequence[EvaluationRecord], after: Sequence[EvaluationRecord]) -> Estimate:
    """Cost per question after minus before, with its paired 95% bootstrap interval.

    Raises:
        KeyError: if ``before`` lacks a question of ``after``.
    """
    known = _mean_costs(before)
    first = {_question(record): record for record in after}
    return summarise(
        [
            replace(first[question], scores={"cost": cost - known[question]})
            for question, cost in _mean_costs(after).items()
        ]
    )[-1].estimates["cost"]


def _question(record: EvaluationRecord) -> tuple[str, str]:
    return record.data_source, record.question


def _mean_costs(records: Sequence[EvaluationRecord]) -> dict[tuple[str, str], float]:
    costs = defaultdict(list)
    for record in records:
        costs[_question(record)].append(record.scores["cost"])
    return {question: float(np.mean(values)) for question, values in costs.items()}
