"""What a report is made from: the files of an evaluation, and of the training run behind it.

Guarantees: only ``questions.parquet`` must exist; a file that is there but cannot be read is an
error that names it, never a section that is silently missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router_r1.evaluation.comparison.file import (
    ComparisonFile,
    EvaluationFileError,
    read_comparison,
    read_json_object,
)
from verl.trainer.evaluation.records import EvaluationRecord, RecordError, read_parquet


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
    comparison: ComparisonFile | None
    metrics: list[dict[str, Any]]


def read_inputs(folder: Path, run_folder: Path) -> ReportInputs:
    """Reads an evaluation's folder and its training run's.

    Raises:
        RecordError: if ``questions.parquet`` is missing, empty or of another kind.
        EvaluationFileError: if another file is there and cannot be read.
    """
    records = read_parquet(folder / "questions.parquet")
    if not records:
        raise RecordError(f"{folder / 'questions.parquet'} holds no record")
    results = read_json_object(folder / "results.json")
    return ReportInputs(
        name=run_folder.resolve().name,
        records=records,
        results=results or {},
        comparison=read_comparison(folder / "comparison.json"),
        metrics=_read_metrics(run_folder / "metrics.jsonl"),
    )


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows in the order written; a last line that a running trainer is writing is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines if line]
    except ValueError as error:
        raise EvaluationFileError(f"{path} has a line that is not JSON: {error}") from error
