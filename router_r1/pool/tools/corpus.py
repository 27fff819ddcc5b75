"""A corpus file: its passages, and the index over them.

A file whose name ends in ``.txt`` or ``.md`` is text, and a passage is a paragraph of it: blank
lines stand between two. Any other file is JSON lines, and a passage is a line: a string, or an
object whose ``contents`` or ``text`` is one.

Guarantees: what is wrong with a file names it, and the line; a file is indexed once, until it is
changed, however many clients search it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from router_r1.pool.tools.bm25 import BM25
from verl.utils.dataset import DataError

_TEXT_SUFFIXES = (".txt", ".md")
_WANTED = 'must be a JSON string or an object with {"contents": "…"} or {"text": "…"}'


@dataclass(frozen=True)
class Corpus:
    """The index over a file's passages, and a digest of the file's bytes."""

    index: BM25
    digest: str


def load_corpus(path: str) -> Corpus:
    """The corpus of a file, which :func:`read_corpus` reads; ``~`` is the home folder."""
    file = Path(path).expanduser()
    state = file.stat() if file.is_file() else None
    version = (state.st_mtime_ns, state.st_size) if state is not None else None
    return _load(file.absolute(), version)


@functools.lru_cache(maxsize=4)
def _load(file: Path, version: object) -> Corpus:  # noqa: ARG001 - a changed file is read anew
    passages = read_corpus(file)
    return Corpus(BM25(passages), hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest())


def read_corpus(path: Path) -> list[str]:
    """The passages of a file, in order; raises :class:`DataError` if there is no such file, no
    passage, or a line is not as it must be."""
    if not path.is_file():
        raise DataError(
            f"no such corpus: {path}; a relative path starts from the folder of the command"
        )
    lines = _lines(path)
    is_text = path.suffix.lower() in _TEXT_SUFFIXES
    passages = list(_paragraphs(lines) if is_text else _json_lines(path, lines))
    if not passages:
        raise DataError(f"{path} holds no document; put one passage a line or paragraph into it")
    return passages


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} line {number} is no UTF-8 text: {error.reason}") from error


def _paragraphs(lines: list[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line.strip())
        elif paragraph:
            yield " ".join(paragraph)
            paragraph = []


def _json_lines(path: Path, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} line {number} is no JSON: {error}; it {_WANTED}") from error
        if isinstance(row, dict):
            row = row["contents"] if "contents" in row else row.get("text")
        if not isinstance(row, str):
            raise DataError(f"{path} line {number} holds no passage: it {_WANTED}")
        yield row
