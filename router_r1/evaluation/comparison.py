"""Routers compared on the same questions: the rows, the sweep of ``cost_coe``, and their file.

Guarantees: a row's mean over datasets is unweighted, as in ``results.json``; a row that was
computed instead of measured has no interval; what a step of the sweep changes is taken question by
question, so that questions which cost both routers the same leave no doubt in its interval; what
is read is what was written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from verl.errors import UserError
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.evaluation.summary import DatasetSummary, Estimate, summarise
from verl.utils.files import write_text

# What a row may be about, and how charts and pages call it.
KINDS = {
    "random": "random",
    "single": "single LLM",
    "learned": "learned single-shot router",
    "fusion": "fusion of several LLMs",
    "retrieval": "retrieval in the loop",
    "prompt": "prompt only, untrained",
    "router": "trained router",
    "oracle": "oracle",
}
_INTERVAL = ("em_low", "em_high")
_CHANGE = ("cost_change", "cost_change_low", "cost_change_high")


class EvaluationFileError(UserError):
    """A file of the evaluation that cannot be used."""


@dataclass(frozen=True)
class Means:
    """Means per question; None where a figure is not known.

    Attributes:
        em: exact match, or the outcome that was recorded, in [0, 1].
        f1: in [0, 1].
        cost: completion tokens x $ per 1M.
        dollars: of prompts and completions.
        calls: that were answered.
        em_low, em_high: the 95% interval of ``em``; None where nothing was sampled.
        latency_s: seconds that a question waits for its calls, without what the policy takes.
        latency_p95_s: not a mean, but the 95th percentile of these seconds over all questions.
        oracle_gap: see :mod:`router_r1.evaluation.oracle_gap`.
    """

    em: float
    f1: float | None
    cost: float | None
    dollars: float
    calls: float
    em_low: float | None = None
    em_high: float | None = None
    latency_s: float | None = None
    latency_p95_s: float | None = None
    oracle_gap: float | None = None


@dataclass(frozen=True)
class Row:
    """One router or baseline; ``kind`` is one of :data:`KINDS`."""

    name: str
    kind: str
    total: Means
    by_source: Mapping[str, Means]


@dataclass(frozen=True)
class SweepPoint:
    """The router trained with ``cost_coe``; the file leaves F1 out.

    ``cost_change`` is in cost per question, against the point before it in the sweep.
    """

    cost_coe: float
    total: Means
    cost_change: Estimate | None = None


@dataclass(frozen=True)
class Comparison:
    """Everything that the tables, the chart and the file show; ``quality`` is what ``em`` is
    called there."""

    title: str
    rows: Sequence[Row]
    sweep: Sequence[SweepPoint]
    quality: str = "EM"


def measured_row(name: str, kind: str, records: Sequence[EvaluationRecord]) -> Row:
    """From scored records."""
    *sources, total = summarise(records, "em")
    by_source = {}
    for summary in sources:
        chosen = [r for r in records if r.data_source == summary.data_source]
        by_source[summary.data_source] = _means(summary, chosen)
    return Row(name, kind, _means(total, records), by_source)


def _means(summary: DatasetSummary, records: Sequence[EvaluationRecord]) -> Means:
    means = {name: estimate.mean for name, estimate in summary.estimates.items()}
    em, seconds = summary.estimates["em"], [r.scores.get("latency_s") for r in records]
    timed = None not in seconds
    return Means(
        em.mean,
        means.get("f1"),
        means.get("cost"),
        means["dollars"],
        means["route_cnt"],
        em.low,
        em.high,
        latency_s=means["latency_s"] if timed else None,
        latency_p95_s=float(np.percentile(np.array(seconds, float), 95)) if timed else None,
    )


def computed_row(name: str, kind: str, by_source: Mapping[str, Means]) -> Row:
    """From expectations per dataset, of which all have a figure or none has."""
    columns = zip(*(astuple(means) for means in by_source.values()), strict=True)
    total: Any = (None if None in column else fmean(column) for column in columns)
    return Row(name, kind, Means(*total), by_source)


def sweep_points(
    evaluations: Iterable[tuple[float, Sequence[EvaluationRecord]]],
) -> list[SweepPoint]:
    """From (``cost_coe``, scored records) of the same questions; the least ``cost_coe`` first.

    Raises:
        KeyError: if an evaluation has a question that the one before it lacks.
    """
    points: list[SweepPoint] = []
    before: Sequence[EvaluationRecord] = ()
    for cost_coe, records in sorted(evaluations, key=itemgetter(0)):
        change = _cost_change(before, records) if points else None
        points.append(SweepPoint(cost_coe, measured_row("", "router", records).total, change))
        before = records
    return points


def _cost_change(before: Sequence[EvaluationRecord], after: Sequence[EvaluationRecord]) -> Estimate:
    """Cost per question after minus before; samples of one question are averaged first."""
    costs: dict[tuple[str, str], list[float]] = {}
    for r in before:
        costs.setdefault((r.data_source, r.prompt), []).append(r.scores["cost"])
    changes = []
    for r in after:
        change = r.scores["cost"] - fmean(costs[r.data_source, r.prompt])
        changes.append(replace(r, scores={"cost": change}))
    return summarise(changes, "em")[-1].estimates["cost"]


# -- comparison.json -----------------------------------------------------------------------------


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Writes ``comparison.json``; makes its folder."""
    rows = [
        {
            "name": row.name,
            "kind": row.kind,
            **asdict(row.total),
            "by_source": {
                source: _without(means, *_INTERVAL) for source, means in row.by_source.items()
            },
        }
        for row in comparison.rows
    ]
    sweep = []
    for point in comparison.sweep:
        change = astuple(point.cost_change) if point.cost_change else (None,) * 3
        total = _without(point.total, "f1", *_INTERVAL)
        sweep.append(
            {"cost_coe": point.cost_coe, **total, **dict(zip(_CHANGE, change, strict=True))}
        )
    content = {"title": comparison.title, "quality": comparison.quality}
    write_text(path, json.dumps({**content, "rows": rows, "sweep": sweep}, indent=2) + "\n")


def _without(means: Means, *names: str) -> dict[str, float | None]:
    return {name: value for name, value in asdict(means).items() if name not in names}


def read_comparison(path: Path) -> Comparison | None:
    """What was written; None if there is no file.

    Raises:
        EvaluationFileError: if it holds something else.
    """
    content = read_json_object(path)
    if content is None:
        return None
    rows, sweep = [], []
    try:
        for row in content["rows"]:
            name, kind, by_source = (row.pop(key) for key in ("name", "kind", "by_source"))
            sources = {source: Means(**means) for source, means in by_source.items()}
            rows.append(Row(name, kind, Means(**row), sources))
        for point in content["sweep"]:
            cost_coe, change = point.pop("cost_coe"), [point.pop(key, None) for key in _CHANGE]
            estimate = None if None in change else Estimate(*change)
            sweep.append(SweepPoint(cost_coe, Means(f1=None, **point), estimate))
        return Comparison(content["title"], rows, sweep, content.get("quality", "EM"))
    except (AttributeError, KeyError, TypeError) as error:
        raise EvaluationFileError(
            f"{path} is no comparison ({error}); python -m router_r1.evaluation.compare writes it"
        ) from error


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no file.

    Raises:
        EvaluationFileError: if it holds something else.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EvaluationFileError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise EvaluationFileError(f"{path} must hold a JSON object")
    return content
