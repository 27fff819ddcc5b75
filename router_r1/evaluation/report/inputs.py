"""What a report is made from: the files of an evaluation, and of the training run behind it.

Guarantees: only ``questions.parquet`` must exist; a file that is there but cannot be read is an
error that names it, never a section that is silently missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verl.errors import UserError
from verl.trainer.evaluation.records import EvaluationRecord, RecordError, read_parquet


class ReportInputError(UserError):
    """A file of the evaluation that cannot be used."""


@dataclass(frozen=True)
class ComparisonRow:
    """One router of ``comparison.json``; figures are means per question.

    Attributes:
        kind: random, single, learned, fusion, retrieval, prompt, router or oracle.
        cost: completion tokens x $ per 1M tokens.
        em_low, em_high: 95% interval of ``em``, None where it is computed, not measured.
        by_source: the same figures (em, f1, cost, dollars, calls) by dataset.
    """

    name: str
    kind: str
    em: float
    f1: float
    cost: float
    dollars: float
    calls: float
    em_low: float | None = None
    em_high: float | None = None
    by_source: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepPoint:
    """A router trained with one cost coefficient."""

    cost_coe: float
    em: float
    cost: float
    dollars: float
    calls: float


@dataclass(frozen=True)
class Comparison:
    """``comparison.json``."""

    title: str
    rows: list[ComparisonRow]
    sweep: list[SweepPoint]


@dataclass(frozen=True)
class ReportInputs:
    """Everything read.

    Attributes:
        name: of the experiment.
        records: scored, at least one.
        results: of ``results.json``, {} without one.
        comparison: None without a ``comparison.json``.
        metrics: rows of the training run's ``metrics.jsonl``, [] without one.
    """

    name: str
    records: list[EvaluationRecord]
    results: dict[str, Any]
    comparison: Comparison | None
    metrics: list[dict[str, Any]]


def read_inputs(folder: Path, run_folder: Path) -> ReportInputs:
    """Reads an evaluation's folder and its training run's.

    Raises:
        RecordError: if ``questions.parquet`` is missing, empty or of another kind.
        ReportInputError: if another file is there and cannot be read.
    """
    records = read_parquet(folder / "questions.parquet")
    if not records:
        raise RecordError(f"{folder / 'questions.parquet'} holds no record")
    results = _read_json(folder / "results.json")
    return ReportInputs(
        name=run_folder.resolve().name,
        records=records,
        results=results or {},
        comparison=_read_comparison(folder / "comparison.json"),
        metrics=_read_metrics(run_folder / "metrics.jsonl"),
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportInputError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ReportInputError(f"{path} must hold a JSON object")
    return content


def _read_comparison(path: Path) -> Comparison | None:
    content = _read_json(path)
    if content is None:
        return None
    try:
        return Comparison(
            title=content["title"],
            rows=[ComparisonRow(**row) for row in content["rows"]],
            sweep=[SweepPoint(**point) for point in content["sweep"]],
        )
    except (KeyError, TypeError) as error:
        raise ReportInputError(
            f"{path} is no comparison ({error}); python -m router_r1.evaluation.compare writes it"
        ) from error


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows in the order written; a last line that a running trainer is writing is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines if line]
    except ValueError as error:
        raise ReportInputError(f"{path} has a line that is not JSON: {error}") from error
