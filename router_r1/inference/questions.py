"""Reads questions from files and from standard input."""

from __future__ import annotations

import io
import json
import os
import select
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pandas as pd

from verl.utils.dataset import DataError

STDIN = "-"
_PIPE_PATIENCE_S = 1.0


def read_questions(source: str) -> list[str]:
    """The questions of a file, or of standard input for ``-``.

    Parquet and JSONL files have them in ``question``, or in ``extra_info.question``; any other
    file has one a line. On standard input a line that starts with ``{`` is JSON.

    Raises:
        DataError: if the file cannot be read or holds no question.
    """
    if source == STDIN:
        questions = _from_lines(sys.stdin, STDIN, json_lines=None)
    else:
        path = Path(source)
        if not path.is_file():
            raise DataError(f"no such file of questions: {path}")
        try:
            if path.suffix == ".parquet":
                rows = pd.read_parquet(path).to_dict("records")
                questions = [_question_of(row, source) for row in rows]
            else:
                with path.open(encoding="utf-8") as file:
                    questions = _from_lines(file, source, path.suffix == ".jsonl")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not parquet
            raise DataError(f"{path} cannot be read: {error}") from error
    if not questions:
        where = "standard input" if source == STDIN else source
        raise DataError(f"there is no question in {where}")
    return questions


def stdin_has_questions() -> bool:
    """Whether something is piped or redirected into this process.

    A pipe that stays open without a word for a second does not count (a service manager's); name
    ``-`` to wait for one.
    """
    try:
        status = os.fstat(0)
    except OSError:  # closed
        return False
    if stat.S_ISREG(status.st_mode):
        return status.st_size > os.lseek(0, 0, os.SEEK_CUR)  # something is left to read
    if not stat.S_ISFIFO(status.st_mode):
        return False
    readable, _, _ = select.select([0], [], [], _PIPE_PATIENCE_S)
    return bool(readable) and bool(cast(io.BufferedReader, sys.stdin.buffer).peek(1))


def _from_lines(lines: Iterable[str], source: str, json_lines: bool | None) -> list[str]:
    questions = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        if json_lines or (json_lines is None and text.startswith("{")):
            where = f"{source}, line {number}"
            try:
                text = _question_of(json.loads(text), where)
            except json.JSONDecodeError as error:
                raise DataError(f"{where} is not JSON: {error}") from error
        questions.append(text)
    return questions


def _question_of(row: Any, where: str) -> str:
    if isinstance(row, str):
        return row
    if isinstance(row, dict):
        extra = row.get("extra_info")
        for holder in (row, extra if isinstance(extra, dict) else {}):
            question = holder.get("question")
            if isinstance(question, str) and question.strip():
                return question
        raise DataError(f"{where} has no field 'question'; it has: {', '.join(map(str, row))}")
    raise DataError(f"{where} must hold objects with a field 'question'")
