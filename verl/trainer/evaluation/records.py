"""One evaluated trajectory, and the files it is kept in.

Guarantees: JSON lines are appended whole, and a line cut off by a crash is dropped on reading; a
parquet file is there whole or not at all; what is read equals what was written.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet

from verl.errors import UserError
from verl.interfaces import RolloutRequest
from verl.trajectory import AgentRecord, RecordT, Trajectory
from verl.utils.arrow import arrow_path
from verl.utils.files import written_whole
from verl.utils.rows import bare_prompt, data_source, extra_info, ground_truth

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Of a record, in the order of the files.
_IDENTITY = ("uid", "sample_index", "data_source", "prompt", "ground_truth", "status")
# Where the files keep what the agent tells: an object in JSON lines, JSON text in parquet.
_EXTRAS = "extras"
_SCORE = "score/"  # begins the name of a column of parquet


class RecordError(UserError):
    """A file of records that cannot be used."""


@dataclass(frozen=True)
class EvaluationRecord(Generic[RecordT]):
    """One trajectory of one prompt.

    Attributes:
        uid: identity of the prompt in its evaluation, ``{data_source}/{row}``.
        data_source: the benchmark.
        prompt: as the user would put it, without any template around it.
        ground_truth: accepted answers.
        status: how the trajectory ended (:class:`verl.trajectory.TrajectoryStatus`).
        trajectory: what the agent tells of it.
        scores: the reward function's columns, and ``reward``; empty before scoring.
        domains: that the prompt's row names; [] if it names none.
    """

    uid: str
    sample_index: int
    data_source: str
    prompt: str
    ground_truth: list[str]
    status: str
    trajectory: RecordT
    scores: dict[str, float] = field(default_factory=dict)
    domains: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, int]:
        """Unique in an evaluation."""
        return self.uid, self.sample_index

    def identity(self) -> dict[str, Any]:
        """What is not scores and not told by the agent, by the names of the files."""
        names = file_names(type(self.trajectory))
        return {name: getattr(self, attribute) for attribute, name in names.items()}

    def agent_to_json(self) -> dict[str, Any]:
        """What the agent tells, and the domains, as the files keep them."""
        domains = {"domains": self.domains} if self.domains else {}
        return {**self.trajectory.to_json(), **domains}


def file_names(record_class: type[AgentRecord]) -> dict[str, str]:
    """Names in the files by those of :class:`EvaluationRecord`, of a record's identity."""
    return {name: name for name in _IDENTITY} | {"prompt": record_class.prompt_name}


def record_from(
    identity: Mapping[str, Any],
    told: Mapping[str, Any],
    scores: dict[str, float],
    record_class: type[RecordT],
) -> EvaluationRecord[RecordT]:
    """From what :meth:`EvaluationRecord.identity` and :meth:`EvaluationRecord.agent_to_json` wrote,
    each of which may hold more; :class:`~verl.trajectory.AgentRecord` itself reads nothing of what
    an agent told.

    Raises:
        KeyError, TypeError, ValueError: for the data of another agent or version.
    """
    return EvaluationRecord(
        **{name: identity[written] for name, written in file_names(record_class).items()},
        trajectory=record_class.from_json(told),
        scores=scores,
        domains=told.get("domains", []),
    )


def record_of(
    trajectory: Trajectory[RecordT], request: RolloutRequest
) -> EvaluationRecord[RecordT]:
    """A trajectory with the prompt of the row that it answers; not scored yet."""
    row = request.row
    domains = extra_info(row).get("domains")
    return EvaluationRecord(
        uid=trajectory.uid,
        sample_index=trajectory.sample_index,
        data_source=data_source(row),
        prompt=bare_prompt(row, trajectory.record.prompt_name) or request.messages[-1]["content"],
        ground_truth=ground_truth(row),
        status=trajectory.status.value,
        trajectory=trajectory.record,
        domains=domains if isinstance(domains, list) else [],
    )


class RecordLog:
    """Appends records to a JSON-lines file, each flushed as it comes; whole lines that it holds
    already stay."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            logger.warning("%s: dropping a line that was cut off", path)
            self._file.truncate(whole)

    def append(self, record: EvaluationRecord) -> None:
        """Writes one line."""
        line = record.identity() | {_EXTRAS: record.agent_to_json(), "scores": record.scores}
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_log(path: Path, record_class: type[RecordT]) -> list[EvaluationRecord[RecordT]]:
    """Records of a JSON-lines file; none if it does not exist.

    Raises:
        RecordError: naming the line that is no record of this agent and version.
    """
    return _read_lines(
        path, lambda line: record_from(line, line[_EXTRAS], line["scores"], record_class)
    )


def read_keys(path: Path) -> set[tuple[str, int]]:
    """Which (prompt, sample) pairs a JSON-lines file holds, whoever's records they are; raises as
    :func:`read_log`."""
    return set(_read_lines(path, lambda content: (content["uid"], content["sample_index"])))


def _read_lines(path: Path, read: Callable[[dict[str, Any]], T]) -> list[T]:
    if not path.is_file():
        return []
    found = []
    lines = path.read_bytes().split(b"\n")[:-1]  # after the last newline: nothing, or a cut line
    for number, line in enumerate(lines, start=1):
        try:
            found.append(read(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordError(
                f"{path} line {number} is no evaluation record of this version: {error!r}; "
                "python -m verl.trainer.main_generation sets the file aside and begins anew"
            ) from error
    return found


def write_parquet(path: Path, records: Sequence[EvaluationRecord]) -> None:
    """One row a record: its fields, a column per score, and ``extras`` as JSON text."""
    written = file_names(type(records[0].trajectory) if records else AgentRecord)
    columns: dict[str, Any] = {
        column: [getattr(record, name) for record in records] for name, column in written.items()
    }
    columns["ground_truth"] = pa.array(columns["ground_truth"], pa.list_(pa.string()))
    for name in sorted({name for record in records for name in record.scores}):
        scores = [record.scores.get(name) for record in records]
        columns[f"{_SCORE}{name}"] = pa.array(scores, pa.float64())
    columns[_EXTRAS] = [json.dumps(record.agent_to_json()) for record in records]
    with written_whole(path) as temporary:
        pyarrow.parquet.write_table(pa.table(columns), arrow_path(temporary))


def read_parquet(path: Path, record_class: type[RecordT]) -> list[EvaluationRecord[RecordT]]:
    """What :func:`write_parquet` wrote.

    Raises:
        RecordError: if the file is missing, of another kind or of another version.
    """
    if not path.is_file():
        raise RecordError(f"no such file: {path}; bash test.sh writes it")
    try:
        rows = pyarrow.parquet.read_table(arrow_path(path)).to_pylist()
        return [
            record_from(row, json.loads(row[_EXTRAS]), _scores_of(row), record_class)
            for row in rows
        ]
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"{path} is no file of evaluation records that this version writes: {error!r}"
        ) from error


def _scores_of(row: dict[str, Any]) -> dict[str, float]:
    return {
        name.removeprefix(_SCORE): value
        for name, value in row.items()
        if name.startswith(_SCORE) and value is not None
    }
