"""What a report is made from: the files of an evaluation and of the training run behind it, or
the validations of a run.

Guarantees: only ``questions.parquet``, or one file under ``validation``, must exist; a file that is
there but cannot be read is an error that names it, never a section that is silently missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from router_r1.evaluation.comparison import (
    Comparison,
    EvaluationFileError,
    read_comparison,
    read_json_object,
)
from router_r1.evaluation.frames import RoutedRecord
from router_r1.evaluation.viewer.reward_rule import stated_by_run
from router_r1.llm_agent.trajectory import RoutedTrajectory
from verl.trainer.evaluation.records import RecordError, read_parquet
from verl.trainer.evaluation.score import RESULTS, scored_file
from verl.trainer.ppo.rollout_log import read_trajectories
from verl.trainer.run_folder import VALIDATION_FOLDER, trajectories_files
from verl.utils.tracking import METRICS_FILE


@dataclass(frozen=True)
class ReportInputs:
    """Everything read.

    Attributes:
        name: of the experiment.
        records: scored, at least one.
        results: of ``results.json``, or what a run's config says in its place; {} without one.
        metrics: rows of the training run's ``metrics.jsonl``, [] without one.
        by_step: records of each validation by the training steps done before it, ascending; {} for
            an evaluation.
    """

    name: str
    records: list[RoutedRecord]
    results: dict[str, Any]
    metrics: list[dict[str, Any]]
    comparison: Comparison | None = None
    by_step: dict[int, list[RoutedRecord]] = field(default_factory=dict)

    @property
    def steps(self) -> list[int] | None:
        """Of each record; None for an evaluation."""
        return [step for step, records in self.by_step.items() for _ in records] or None

    @property
    def newest(self) -> list[RoutedRecord]:
        """Records of the last validation; all of an evaluation."""
        return list(self.by_step.values())[-1] if self.by_step else self.records


def read_inputs(folder: Path, run_folder: Path | None = None) -> ReportInputs:
    """Reads an evaluation's folder, with what there is of ``results.json`` and ``comparison.json``,
    and its training run's ``metrics.jsonl``, by default in the folder that holds it; or the
    validations of a training run.

    Raises:
        RecordError: if there are no records, or they are of another kind or version.
        EvaluationFileError: if another file is there and cannot be read.
    """
    path = scored_file(folder, RoutedTrajectory)
    if not path.is_file():
        return _read_run(folder)
    records = read_parquet(path, RoutedTrajectory)
    if not records:
        raise RecordError(f"{path} holds no record")
    run_folder = run_folder or folder.resolve().parent
    return ReportInputs(
        run_folder.resolve().name,
        records,
        read_json_object(folder / RESULTS) or {},
        _read_metrics(run_folder / METRICS_FILE),
        read_comparison(folder / "comparison.json"),
    )


def _read_run(folder: Path) -> ReportInputs:
    by_step = {}
    for step, path in trajectories_files(folder / VALIDATION_FOLDER).items():
        if records := read_trajectories(path, RoutedTrajectory):
            by_step[step] = records
    if not by_step:
        raise RecordError(
            f"{folder} holds neither an evaluation (questions.parquet, of bash test.sh) nor "
            "validations of a training run (validation/step_N.jsonl, of bash train.sh)"
        )
    return ReportInputs(
        folder.resolve().name,
        list(chain.from_iterable(by_step.values())),
        _run_facts(folder / "config.yaml"),
        _read_metrics(folder / METRICS_FILE),
        by_step=by_step,
    )


def _run_facts(path: Path) -> dict[str, Any]:
    """Of a run's config, what ``results.json`` says of an evaluation; {} without a config."""
    if not path.is_file():
        return {}
    try:
        return stated_by_run(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationFileError(f"{path} is no config of a router's run: {error!r}") from error


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows in the order written; a last line that a running trainer is writing is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines if line]
    except ValueError as error:
        raise EvaluationFileError(f"{path} has a line that is not JSON: {error}") from error
