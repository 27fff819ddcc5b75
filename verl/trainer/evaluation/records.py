"""One evaluated trajectory, and the files it is kept in.

Guarantees: JSON lines are appended whole, and a line cut off by a crash is dropped on reading; a
parquet file is there whole or not at all; what is read equals what was written.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from verl.errors import UserError
from verl.interfaces import RolloutRequest
from verl.trajectory import Trajectory
from verl.utils.arrow import arrow_path
from verl.utils.files import written_whole
from verl.utils.rows import data_source, extra_info, ground_truth, question

logger = logging.getLogger(__name__)

# Columns of the parquet file beside the scores; ``extras`` is JSON text.
_TEXT_COLUMNS = ("uid", "data_source", "question", "status")


class RecordError(UserError):
    """A file of records that cannot be used."""


@dataclass(frozen=True)
class EvaluationRecord:
    """One trajectory of one question.

    Attributes:
        uid: identity of the question in its evaluation, ``{data_source}/{row}``.
        sample_index: tells the samples of one question apart.
        data_source: the benchmark.
        question: as the user would ask it.
        ground_truth: accepted answers.
        status: how the trajectory ended (:class:`verl.trajectory.TrajectoryStatus`).
        extras: what the agent reports about it.
        scores: the reward function's columns, and ``reward``; empty before scoring.
    """

    uid: str
    sample_index: int
    data_source: str
    question: str
    ground_truth: list[str]
    status: str
    extras: dict[str, Any]
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """Unique in an evaluation."""
        return self.uid, self.sample_index


def record_of(trajectory: Trajectory, request: RolloutRequest) -> EvaluationRecord:
    """A trajectory with the question of the row that it answers; not scored yet."""
    row = request.row
    extras = dict(trajectory.extras)
    domains = extra_info(row).get("domains")
    if isinstance(domains, list):
        extras["domains"] = domains
    return EvaluationRecord(
        uid=trajectory.uid,
        sample_index=trajectory.sample_index,
        data_source=data_source(row),
        question=question(row) or request.messages[-1]["content"],
        ground_truth=ground_truth(row),
        status=trajectory.status.value,
        extras=extras,
    )


class RecordLog:
    """Appends records to a JSON-lines file, each flushed as it comes.

    Args:
        path: of the file; what it holds already is kept.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_unfinished_line(path)
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: EvaluationRecord) -> None:
        """Writes one line."""
        self._file.write(json.dumps(asdict(record)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_log(path: Path) -> list[EvaluationRecord]:
    """Records of a JSON-lines file; none if it does not exist.

    Raises:
        RecordError: naming the line that is no record.
    """
    if not path.is_file():
        return []
    records = []
    lines = path.read_bytes().split(b"\n")[:-1]  # after the last newline: nothing, or a cut line
    for number, line in enumerate(lines, start=1):
        try:
            records.append(EvaluationRecord(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RecordError(f"{path} line {number} is no evaluation record: {error}") from error
    return records


def _drop_unfinished_line(path: Path) -> None:
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        logger.warning("%s: dropping a line that was cut off", path)
        with path.open("r+b") as file:
            file.truncate(whole)


def write_parquet(path: Path, records: Sequence[EvaluationRecord]) -> None:
    """One row a record: its fields, a column per score, and ``extras`` as JSON text."""
    names = sorted({name for record in records for name in record.scores})
    columns: dict[str, Any] = {
        name: [getattr(record, name) for record in records] for name in _TEXT_COLUMNS
    }
    columns["sample_index"] = [record.sample_index for record in records]
    columns["ground_truth"] = pa.array(
        [record.ground_truth for record in records], pa.list_(pa.string())
    )
    for name in names:
        columns[f"score/{name}"] = pa.array(
            [record.scores.get(name) for record in records], pa.float64()
        )
    columns["extras"] = [json.dumps(record.extras) for record in records]
    with written_whole(path) as temporary:
        pyarrow.parquet.write_table(pa.table(columns), arrow_path(temporary))


def read_parquet(path: Path) -> list[EvaluationRecord]:
    """What :func:`write_parquet` wrote.

    Raises:
        RecordError: if the file is missing or of another kind.
    """
    if not path.is_file():
        raise RecordError(f"no such file: {path}; bash test.sh writes it")
    try:
        rows = pyarrow.parquet.read_table(arrow_path(path)).to_pylist()
        return [_from_row(row) for row in rows]
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise RecordError(f"{path} is no file of evaluation records: {error}") from error


def _from_row(row: dict[str, Any]) -> EvaluationRecord:
    scores = {
        name.removeprefix("score/"): value
        for name, value in row.items()
        if name.startswith("score/") and value is not None
    }
    return EvaluationRecord(
        uid=row["uid"],
        sample_index=row["sample_index"],
        data_source=row["data_source"],
        question=row["question"],
        ground_truth=list(row["ground_truth"]),
        status=row["status"],
        extras=json.loads(row["extras"]),
        scores=scores,
    )


def keys(records: Iterable[EvaluationRecord]) -> set[tuple[str, int]]:
    """Which (question, sample) pairs are there."""
    return {record.key for record in records}
