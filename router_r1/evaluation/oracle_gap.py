"""How far routers stay below the oracle that knows, for each question, the best LLM to ask.

The oracle asks one LLM a question: of those with the highest quality the cheapest, so the cheapest
that is right, and where none is, the cheapest of all. With q the quality of a router and q* the
oracle's, both means over questions, the OracleGap is ``1 - q / q*`` (Gap@O of LLMRouterBench, Li et
al. 2026, arXiv 2601.07206): 0 for the oracle, 1 where nothing is right. The oracle chooses in
hindsight, by the outcomes themselves, so that an LLM's luck counts as if it could be known.

Guarantees: the oracle answers the questions of the comparison, by recorded outcomes of its LLMs; no
router that asks one of them a question has a gap below 0. One that asks several may have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from router_r1.evaluation.comparison import Comparison, Means, Row, measured_row
from verl.trainer.evaluation.records import EvaluationRecord

ORACLE = "oracle of one LLM"


def oracle_row(singles: Sequence[Sequence[EvaluationRecord]]) -> Row:
    """The oracle's row, from each LLM's scored record of each question, in one order; at least one
    LLM."""
    best = [
        max(records, key=lambda r: (r.scores["em"], -r.scores["dollars"]))
        for records in zip(*singles, strict=True)
    ]
    return measured_row(ORACLE, "oracle", best)


def with_oracle_gaps(comparison: Comparison, oracle: Row) -> Comparison:
    """The comparison with ``oracle`` and the gap of every row, by dataset and in all."""
    rows = []
    for row in (*comparison.rows, oracle):
        sources = row.by_source.items()
        by_source = {name: _with_gap(m, oracle.by_source.get(name)) for name, m in sources}
        rows.append(replace(row, total=_with_gap(row.total, oracle.total), by_source=by_source))
    sweep = [replace(p, total=_with_gap(p.total, oracle.total)) for p in comparison.sweep]
    return replace(comparison, rows=rows, sweep=sweep)


def _with_gap(means: Means, oracle: Means | None) -> Means:
    if oracle is None or oracle.em <= 0:
        return means
    return replace(means, oracle_gap=1.0 - means.em / oracle.em)
