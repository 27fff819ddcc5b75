from __future__ import annotations

import json
from pathlib import Path

import pytest

from router_r1.pool.tools.corpus import load_corpus, read_corpus
from verl.utils.dataset import DataError


def test_a_corpus_file_holds_strings_or_objects(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    rows = ["plain", {"id": 1, "contents": "FlashRAG's"}, {"text": "other"}]
    path.write_text("\ufeff" + "\r\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert read_corpus(path) == ["plain", "FlashRAG's", "other"]


def test_a_text_file_holds_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("\n\nA passage\nof two lines.\n \nAnother:\r\n\r\n\n{3}")
    assert read_corpus(path) == ["A passage of two lines.", "Another:", "{3}"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'"fine"\n{"title": "no text"}\n', "line 2 holds no passage"),
        (b'"fine"\n\n{"contents": null}\n', "line 3 holds no passage"),
        (b'"fine"\n7\n', "line 2 holds no passage"),
        (b'"fine"\n{"text": \n', "line 2 is no JSON"),
        (b'"fine"\n' + b"[" * 100_000, "line 2 is no JSON"),
        (b'"fine"\n"caf\xe9"\n', "line 2 is no UTF-8"),
        (b"\n \n", "holds no document"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        load_corpus(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.jsonl"):
        with pytest.raises(DataError, match=f"no such corpus: {path}"):
            load_corpus(str(path))


def test_a_file_is_indexed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("first")
    monkeypatch.setenv("HOME", str(tmp_path))
    first = load_corpus(str(path))
    assert load_corpus("~/corpus.txt") is first
    path.write_text("second passage")
    second = load_corpus(str(path))
    assert second.index.documents == ["second passage"]
    assert second.digest != first.digest
