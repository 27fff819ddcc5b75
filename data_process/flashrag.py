"""Reads the question files of ``RUC-NLPIR/FlashRAG_datasets``, from the hub or from a folder.

Guarantees: a row keeps its line number in the source file, from 0; a row that cannot be used is
dropped with a reason, never silently, and never takes the rest of its file with it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router_r1.llm_agent.question import as_question, is_unicode
from router_r1.reward.normalization import normalize_answer
from verl.utils.dataset import DataError

REPOSITORY = "RUC-NLPIR/FlashRAG_datasets"
# Up to here a float names every whole number.
_EXACT_FLOATS = 2.0**53


class UnusableRowError(ValueError):
    """Why a row is dropped; the message is the reason that is counted."""


@dataclass(frozen=True)
class SourceQuestion:
    """A usable row: ``index`` is its number in the file."""

    index: int
    question: str
    golden_answers: list[str]


@dataclass(frozen=True)
class SourceFile:
    """A split of a dataset, read; ``dropped`` counts unusable rows by reason."""

    dataset: str
    split: str
    questions: list[SourceQuestion]
    dropped: Counter[str] = field(default_factory=Counter)


def read_source(dataset: str, splits: Sequence[str], source_dir: Path | None) -> SourceFile:
    """The first of ``splits`` that the dataset has.

    Args:
        source_dir: a folder with ``<dataset>/<split>.jsonl``; None asks the hub.

    Raises:
        DataError: if there is no such split, or no line of its file is a usable row.
    """
    split, path = _locate(dataset, splits, source_dir)
    source = SourceFile(dataset, split, [])
    with path.open("rb") as file:
        for index, line in enumerate(file):
            if not line.strip():
                continue
            try:
                source.questions.append(_parse(index, line))
            except UnusableRowError as reason:
                source.dropped[str(reason)] += 1
    if not source.questions:
        reasons = ", ".join(f"{count} {why}" for why, count in source.dropped.items())
        raise DataError(
            f"{path} has no usable row ({reasons or 'it is empty'}); it must hold JSON lines with "
            "question and golden_answers"
        )
    return source


def _parse(index: int, line: bytes) -> SourceQuestion:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, or not JSON
        raise UnusableRowError("not JSON") from error
    if not isinstance(row, dict):
        raise UnusableRowError("no object")
    question = row.get("question")
    if question is None or not (question := _text(question, "question")).strip():
        raise UnusableRowError("no question")
    return SourceQuestion(index, as_question(question), _answers(row.get("golden_answers")))


def _answers(value: Any) -> list[str]:
    """All that say something; a text or number on its own is one answer."""
    listed = value if isinstance(value, list) else [value]
    written = [_text(answer, "answer") for answer in listed if answer is not None]
    answers = [answer for answer in written if answer.strip()]
    if not answers:
        raise UnusableRowError("no answer")
    if not any(normalize_answer(answer) for answer in answers):
        raise UnusableRowError("answer of punctuation only")
    return answers


def _text(value: Any, what: str) -> str:
    """A text as it is, a number as people write it: 1969, also where JSON has 1969.0."""
    no_number = isinstance(value, float) and not math.isfinite(value)
    if no_number or isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnusableRowError(f"{what} is no text")
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_FLOATS:
        value = int(value)
    text = str(value)
    if not is_unicode(text):  # half of a surrogate pair, escaped in the JSON
        raise UnusableRowError(f"{what} is no Unicode text")
    return text


def _locate(dataset: str, splits: Sequence[str], source_dir: Path | None) -> tuple[str, Path]:
    if source_dir is None:
        return _download(dataset, splits)
    for split in splits:
        path = source_dir / dataset / f"{split}.jsonl"
        if path.is_file():
            return split, path
    tried = ", ".join(f"{dataset}/{split}.jsonl" for split in splits)
    raise DataError(f"{source_dir} has none of: {tried}")


def _download(dataset: str, splits: Sequence[str]) -> tuple[str, Path]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for split in splits:
        try:
            path = hf_hub_download(REPOSITORY, f"{dataset}/{split}.jsonl", repo_type="dataset")
            return split, Path(path)
        except LocalEntryNotFoundError as error:
            raise DataError(
                f"the hub cannot be reached for {REPOSITORY}; pass --source_dir with a folder that "
                f"holds {dataset}/{split}.jsonl"
            ) from error
        except EntryNotFoundError:
            continue
    raise DataError(f"{REPOSITORY} has none of the splits {', '.join(splits)} of {dataset}")
