"""A table of recorded outcomes: what each LLM made of each question.

A row is about one question and one LLM. Its columns:

* ``question``: the text;
* ``llm``: the name;
* ``right``: 0 or 1, or a score between them;
* ``cost``: dollars of the answer, with those of the prompt;
* ``answer`` (may be left out): what the LLM answered;
* ``latency_s`` (may be left out): seconds that the answer took;
* ``data_source`` (may be left out): the dataset; a question is told apart by it and its text;
* ``split`` (may be left out): ``train`` where routers learn from the question, ``test`` where they
  are scored on it.

Guarantees: a table that is read is whole: every value is of its column's type and range, and there
is exactly one row for each question and LLM. The first thing that is wrong is an error that names
file, row and column; rows are counted from 1, a header left out.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from router_r1.evaluation.benchmark import Prompt
from verl.errors import UserError
from verl.utils.arrow import arrow_path

_NEEDED = ("question", "llm", "right", "cost")
_NUMBERS = ("right", "cost", "latency_s")
_SOURCE = "recorded"  # of a table that names no dataset


class OutcomesError(UserError):
    """A table of outcomes that cannot be used."""


@dataclass(frozen=True)
class RecordedOutcomes:
    """A table, by question and LLM in the order in which they first appear.

    Arrays are (questions, llms): ``right`` in [0, 1], ``dollars`` not negative, ``latency_s`` in
    seconds. ``answers`` are those of the LLMs to each question, ``splits`` is of each question
    "train" or "test". What may be left out is None where the table has none.
    """

    prompts: Sequence[Prompt]
    llms: Sequence[str]
    right: np.ndarray
    dollars: np.ndarray
    latency_s: np.ndarray | None
    answers: Sequence[Sequence[str]] | None
    splits: Sequence[str] | None


def read_outcomes(path: Path) -> RecordedOutcomes:
    """Reads a table from ``.csv``, ``.jsonl`` or ``.parquet``.

    Raises:
        OutcomesError: naming what is wrong with it, and where.
    """
    rows = _read_rows(path)
    if not rows:
        raise OutcomesError(f"{path} holds no row; it needs one for each question and LLM")
    columns = set(rows[0])
    for number, row in enumerate(rows, start=1):
        _check_row(f"{path} row {number}", row, columns)
    return _arrange(path, rows, columns)


# -- rows ----------------------------------------------------------------------------------------


def _read_rows(path: Path) -> list[dict[str, Any]]:
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise OutcomesError(f"{path} must end in one of {', '.join(readers)}")
    if not path.is_file():
        raise OutcomesError(f"no such file: {path}")
    try:
        return readers[path.suffix](path)
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        raise OutcomesError(f"{path} is no {path.suffix[1:]} file: {error}") from error


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.reader(file, strict=True)
        header = next(table, [])
        if twice := [name for name in header if header.count(name) > 1]:
            raise OutcomesError(f"{path} has the column {twice[0]!r} twice; leave one of them out")
        rows = []
        for number, fields in enumerate(table, start=1):
            if len(fields) != len(header):
                raise OutcomesError(
                    f"{path} row {number} has {len(fields)} fields, and the header {len(header)}"
                )
            row: dict[str, Any] = dict(zip(header, fields, strict=True))
            rows.append(row | {name: _number(row[name]) for name in _NUMBERS if name in row})
    return rows


def _number(text: str) -> float | str:
    """A field of a CSV file; what is no number stays a text, which the check refuses."""
    try:
        return float(text)
    except ValueError:
        return text


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    text = path.read_text(encoding="utf-8").rstrip("\n")
    for number, line in enumerate(text.split("\n") if text else (), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise OutcomesError(f"{path} row {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise OutcomesError(f"{path} row {number} must be a JSON object, got {row!r}")
        rows.append(row)
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    return list(pyarrow.parquet.read_table(arrow_path(path)).to_pylist())


def _is_number(value: object, high: float = math.inf) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= high


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


# What a column may hold: in words, and as a check.
_COLUMNS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "question": ("a text that is not empty", _is_text),
    "llm": ("a text that is not empty", _is_text),
    "right": ("a number from 0 to 1", lambda value: _is_number(value, 1.0)),
    "cost": ("a number of dollars, 0 or more", _is_number),
    "answer": ("a text", lambda value: isinstance(value, str)),
    "latency_s": ("a number of seconds, 0 or more", _is_number),
    "data_source": ("a text that is not empty", _is_text),
    "split": ("train or test", lambda value: value in ("train", "test")),
}


def _check_row(place: str, row: Mapping[str, Any], columns: set[str]) -> None:
    for name in row:
        if name not in _COLUMNS:
            raise OutcomesError(
                f"{place} has the unknown column {name!r}; a table may have {', '.join(_COLUMNS)}"
            )
    for name in (*_NEEDED, *sorted(columns - set(_NEEDED))):
        if name not in row:
            raise OutcomesError(f"{place} lacks the column {name!r}")
    for name, value in row.items():
        if name not in columns:
            raise OutcomesError(f"{place} has the column {name!r}, which row 1 lacks")
        words, is_right = _COLUMNS[name]
        if not is_right(value):
            raise OutcomesError(f"{place}, column {name!r}: {value!r} is not {words}")


# -- the whole table -----------------------------------------------------------------------------


def _arrange(path: Path, rows: Sequence[Mapping[str, Any]], columns: set[str]) -> RecordedOutcomes:
    found: dict[Prompt, dict[str, int]] = {}  # numbers of rows, by question and LLM
    for number, row in enumerate(rows, start=1):
        prompt, llm = Prompt(row.get("data_source", _SOURCE), row["question"]), row["llm"]
        of_question = found.setdefault(prompt, {llm: number})
        first, before = next(iter(of_question.values())), of_question.setdefault(llm, number)
        if before != number:
            raise OutcomesError(
                f"{path} row {number} repeats row {before}: column 'question' {prompt.text!r} and "
                f"column 'llm' {llm!r}; a question has one row for each LLM"
            )
        if (split := row.get("split")) != (others := rows[first - 1].get("split")):
            raise OutcomesError(
                f"{path} row {number}, column 'split': {split!r}, but row {first} of the same "
                f"question has {others!r}; they must agree"
            )
    llms = list(dict.fromkeys(row["llm"] for row in rows))
    for prompt, of_question in found.items():
        if missing := [llm for llm in llms if llm not in of_question]:
            raise OutcomesError(
                f"{path} has no row with column 'llm' {missing[0]!r} for the question of row "
                f"{next(iter(of_question.values()))}, {prompt.text!r}; every question needs one "
                f"for each of {', '.join(llms)}"
            )

    def cells(column: str) -> list[list[Any]] | None:
        if column not in columns:
            return None
        return [[rows[numbers[llm] - 1][column] for llm in llms] for numbers in found.values()]

    right, dollars, seconds = map(cells, ("right", "cost", "latency_s"))
    splits = cells("split")
    return RecordedOutcomes(
        list(found),
        llms,
        np.array(right, dtype=np.float64),
        np.array(dollars, dtype=np.float64),
        None if seconds is None else np.array(seconds, dtype=np.float64),
        cells("answer"),
        None if splits is None else [of_question[0] for of_question in splits],
    )
