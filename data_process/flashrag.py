"""Reads the question files of ``RUC-NLPIR/FlashRAG_datasets``, from the hub or from a folder.

Guarantees: a row keeps its number in the source file; a row that cannot be used is dropped with a
reason, never silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.json

from verl.utils.dataset import DataError

REPOSITORY = "RUC-NLPIR/FlashRAG_datasets"
DATASETS = ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle")
_SCHEMA = pa.schema([("question", pa.string()), ("golden_answers", pa.list_(pa.string()))])


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
        DataError: if there is no such split, or its file is not JSON lines with ``question`` and
            ``golden_answers``.
    """
    split, path = _locate(dataset, splits, source_dir)
    options = pyarrow.json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="ignore")
    try:
        rows = pyarrow.json.read_json(path, parse_options=options).to_pylist()
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{path} must hold JSON lines with question and golden_answers: {error}"
        ) from error
    source = SourceFile(dataset, split, [])
    for index, row in enumerate(rows):
        question = (row["question"] or "").strip()
        answers = [answer for answer in row["golden_answers"] or [] if answer and answer.strip()]
        if not question:
            source.dropped["no question"] += 1
        elif not answers:
            source.dropped["no answer"] += 1
        else:
            ended = question if question.endswith("?") else f"{question}?"
            source.questions.append(SourceQuestion(index, ended, answers))
    return source


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
