"""The routers of a sweep of ``cost_coe``, and what each step of it changes in cost.

Guarantees: a change is taken question by question, so that questions which cost both routers the
same leave no doubt in its interval; samples of one question are averaged first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter

import numpy as np

from router_r1.evaluation.comparison.rows import SweepPoint, measured_row
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.evaluation.summary import Estimate, summarise


def sweep_points(
    evaluations: Iterable[tuple[float, Sequence[EvaluationRecord]]],
) -> list[SweepPoint]:
    """From (``cost_coe``, scored records) of the same questions; the least ``cost_coe`` first."""
    points: list[SweepPoint] = []
    before: Sequence[EvaluationRecord] = ()
    for cost_coe, records in sorted(evaluations, key=itemgetter(0)):
        change = cost_change(before, records) if points else None
        points.append(SweepPoint(cost_coe, measured_row("", "router", records).total, change))
        before = records
    return points


def cost_change(before: Sequence[EvaluationRecord], after: Sequence[EvaluationRecord]) -> Estimate:
    """Cost per question after minus before, with its paired 95% bootstrap interval.

    Raises:
        KeyError: if ``before`` lacks a question of ``after``.
    """
    known = _mean_costs(before)
    changes = [
        replace(record, scores={"cost": record.scores["cost"] - known[_question(record)]})
        for record in after
    ]
    return summarise(changes)[-1].estimates["cost"]


def _question(record: EvaluationRecord) -> tuple[str, str]:
    return record.data_source, record.question


def _mean_costs(records: Sequence[EvaluationRecord]) -> dict[tuple[str, str], float]:
    costs = defaultdict(list)
    for record in records:
        costs[_question(record)].append(record.scores["cost"])
    return {question: float(np.mean(values)) for question, values in costs.items()}
