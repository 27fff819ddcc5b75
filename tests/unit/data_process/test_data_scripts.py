from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_process import qa_train_merge
from data_process.command import run
from data_process.flashrag import SourceFile, read_source
from data_process.preparation import PREPARATIONS
from data_process.prompt_pool import PROMPT_TEMPLATE_LLAMA
from router_r1.data_row import check_routing_row
from router_r1.llm_agent.question import as_question
from tests.command_lines import DATA_SCRIPTS, ROOT
from tests.conftest import REFERENCE
from verl.utils.dataset import DataError, PromptDataset

Write = Callable[..., Path]


@pytest.fixture
def source_dir(tmp_path: Path) -> Path:
    """nq with train and test, musique with dev only; three unusable rows."""
    folder = tmp_path / "source"
    write_rows(folder / "nq" / "train.jsonl", 40)
    write_rows(folder / "nq" / "test.jsonl", 20)
    bad = [
        {"id": "x", "question": "  ", "golden_answers": ["a"]},
        {"id": "y", "question": "who", "golden_answers": []},
        {"id": "z", "question": "who", "golden_answers": [""]},
    ]
    write_rows(folder / "musique" / "dev.jsonl", 10, bad)
    return folder


def write_rows(path: Path, count: int, extra: list[dict[str, Any]] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "id": str(i),
            "question": f" who wrote book {i}" + ("?" if i % 2 else ""),
            "golden_answers": [f"author {i}", f"{i}"],
            "metadata": {"depth": i},
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in (extra or []) + rows))


def prepared(kind: str, tmp_path: Path, source_dir: Path, *arguments: str) -> Path:
    out = tmp_path / "out"
    run(kind, ["--source_dir", str(source_dir), "--local_dir", str(out), *arguments])
    return out


def test_rows_have_the_fields_that_training_reads(tmp_path: Path, source_dir: Path) -> None:
    out = prepared("train", tmp_path, source_dir, "--data_sources", "nq")
    rows = PromptDataset([str(out / "train_nh_qwen.parquet")], "prompt").rows
    assert len(rows) == 40
    for row in rows:
        index = row["extra_info"]["index"]
        question = f"who wrote book {index}?"
        assert row["data_source"] == "nq"
        assert row["ability"] == "fact-reasoning"
        assert row["extra_info"]["split"] == "train"
        assert row["prompt"][0]["role"] == "user"
        assert row["prompt"][0]["content"].endswith(f"Question: {question}")
        assert row["reward_model"]["style"] == "rule"
        target = row["reward_model"]["ground_truth"]["target"]
        assert list(target) == [f"author {index}", str(index)]


def test_files_splits_and_sizes(tmp_path: Path, source_dir: Path) -> None:
    both = ("--data_sources", "nq,musique")
    out = prepared("validation", tmp_path, source_dir, *both, "--num_samples", "15")
    frame = pd.read_parquet(out / "test_nh_qwen.parquet")
    assert frame.data_source.value_counts().to_dict() == {"nq": 15, "musique": 10}
    splits = {row["split"] for row in frame[frame.data_source == "musique"].extra_info}
    assert splits == {"dev"}
    prepared("test", tmp_path, source_dir, *both, "--model", "llama")
    assert len(pd.read_parquet(out / "test_nq_llama.parquet")) == 20
    llama = pd.read_parquet(out / "test_musique_llama.parquet").prompt[0][0]["content"]
    assert llama.startswith(PROMPT_TEMPLATE_LLAMA.split("{question}")[0])


def test_a_draw_depends_on_seed_and_source_alone(tmp_path: Path, source_dir: Path) -> None:
    def draw(*arguments: str) -> list[str]:
        out = prepared("train", tmp_path, source_dir, "--num_samples", "10", *arguments)
        frame = pd.read_parquet(out / "train_nh_qwen.parquet")
        return [row["question"] for row in frame[frame.data_source == "nq"].extra_info]

    write_rows(source_dir / "hotpotqa" / "train.jsonl", 30)
    alone = draw("--data_sources", "nq")
    assert alone == draw("--data_sources", "nq") == draw("--data_sources", "hotpotqa,nq")
    assert alone != draw("--data_sources", "nq", "--seed", "1")
    assert len(set(alone)) == 10


def test_what_is_dropped_is_counted_by_reason(source_dir: Path) -> None:
    source = read_source("musique", ("test", "dev"), source_dir)
    assert (source.split, len(source.questions)) == ("dev", 10)
    assert dict(source.dropped) == {"no question": 1, "no answer": 2}
    assert source.questions[0].index == 3


def test_the_pool_writes_the_prompt(tmp_path: Path, source_dir: Path) -> None:
    pool = tmp_path / "mine.yaml"
    pool.write_text(
        "name: mine\nllms: [{name: Zephyr, model: z, completion_price: 1, descriptor: windy}]\n"
    )
    out = prepared("train", tmp_path, source_dir, "--data_sources", "nq", "--pool", str(pool))
    content = pd.read_parquet(out / "train_nh_qwen.parquet").prompt[0][0]["content"]
    assert "- Zephyr: windy" in content
    assert "Mistral" not in content


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data_sources", "nq,squad"], "choose from nq, triviaqa"),
        (["--data_sources", "popqa"], "has none of: popqa/train.jsonl"),
        (["--data_sources", "nq", "--num_samples", "0"], "at least 1"),
        (["--data_sources", "nq", "--pool", "nowhere"], "pools in"),
    ],
)
def test_mistakes_end_with_a_reason_and_no_file(
    tmp_path: Path,
    source_dir: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        prepared("train", tmp_path, source_dir, *arguments)
    assert stop.value.code == 2
    assert words in capsys.readouterr().out.replace("\n", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("a_file/sub", "a_file/sub: Not a directory; choose another --local_dir"),
        ("x" * 300, "File name too long; choose another --local_dir"),
        ("taken", "taken/train_nh_qwen.parquet: Is a directory; choose another --local_dir"),
        ("not_\udcff_utf8", "Arrow takes only paths in UTF-8"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(
    tmp_path: Path, source_dir: Path, folder: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_file").touch()
    (tmp_path / "taken" / "train_nh_qwen.parquet").mkdir(parents=True)
    out = str(tmp_path / folder)
    with pytest.raises(SystemExit) as stop:
        prepared("train", tmp_path, source_dir, "--data_sources=nq", "--local_dir", out)
    assert stop.value.code == 2
    assert words in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["train_nh_qwen.parquet"]


def test_folders_in_any_script_work_in_an_ascii_locale(tmp_path: Path, source_dir: Path) -> None:
    """As a user starts it, with Python's own UTF-8 mode switched off."""
    named = source_dir.rename(tmp_path / "Bücher")
    out = tmp_path / "本"
    root = Path(qa_train_merge.__file__).parents[1]
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    script = subprocess.run(
        [
            *(sys.executable, "data_process/qa_train_merge.py", "--data_sources=nq"),
            *("--source_dir", str(named), "--local_dir", str(out)),
        ],
        cwd=root,
        env={**os.environ, **locale, "PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
    )
    assert script.returncode == 0, script.stderr
    assert len(PromptDataset([str(out / "train_nh_qwen.parquet")], "prompt")) == 40


def read_lines(folder: Path, *lines: str | bytes) -> SourceFile:
    path = folder / "nq" / "train.jsonl"
    path.parent.mkdir(exist_ok=True)
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return read_source("nq", ("train",), folder)


def row_line(answers: Any, question: Any = "who?", **more: Any) -> str:
    return json.dumps({"question": question, "golden_answers": answers, **more})


def test_a_source_without_a_usable_row_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no usable row \(1 not JSON, 1 no answer\)"):
        read_lines(tmp_path, '{"question": "who?"', '{"question": "who?"}')
    with pytest.raises(DataError, match="it is empty"):
        read_lines(tmp_path, "")


def test_a_line_of_three_megabytes_is_read(tmp_path: Path) -> None:
    source = read_lines(tmp_path, row_line(["a"], metadata="x" * 3_000_000), row_line(["b"]))
    assert [question.golden_answers for question in source.questions] == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        ("Paris", ["Paris"]),
        (1969, ["1969"]),
        ([1969], ["1969"]),
        ([1969.0, 3.5, -2.0], ["1969", "3.5", "-2"]),
        (["Paris", None, ""], ["Paris"]),
        ([10**20], ["100000000000000000000"]),
    ],
)
def test_answers_are_written_as_people_write_them(
    tmp_path: Path, value: Any, answers: list[str]
) -> None:
    (question,) = read_lines(tmp_path, row_line(value)).questions
    assert question.golden_answers == answers


def test_a_bad_row_is_dropped_with_its_reason_and_takes_no_other_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad: dict[str | bytes, str] = {
        "{": "not JSON",
        b'{"question": "\xff", "golden_answers": ["a"]}': "not JSON",
        "[1]": "no object",
        "[" * 100_000: "not JSON",
        row_line(["a"], None): "no question",
        row_line(["a"], ["who?"]): "question is no text",
        row_line(["a"], "\ud800"): "question is no Unicode text",
        row_line([["a"]]): "answer is no text",
        row_line([True]): "answer is no text",
        row_line([float("nan")]): "answer is no text",
        row_line({"a": 1}): "answer is no text",
        row_line([]): "no answer",
        row_line(None): "no answer",
        row_line(["?!"]): "answer of punctuation only",
    }
    source = read_lines(tmp_path, *bad, row_line(["a"]))
    assert source.dropped == Counter(bad.values())
    assert [question.index for question in source.questions] == [len(bad)]
    prepared("train", tmp_path, tmp_path, "--data_sources", "nq")
    assert "3 not JSON" in " ".join(capsys.readouterr().out.split())


JSON_VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=8, deadline=None)
@given(any_rows=st.lists(st.tuples(JSON_VALUE, JSON_VALUE), min_size=5, max_size=8))
def test_any_row_is_prepared_or_dropped_and_what_is_prepared_can_be_trained_on(
    any_rows: list[tuple[Any, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any_row"
    folder.mkdir(exist_ok=True)
    source = read_lines(folder, row_line(["a"]), *(row_line(*values) for values in any_rows))
    assert len(source.questions) + source.dropped.total() == 1 + len(any_rows)
    out = prepared("train", folder, folder, "--data_sources", "nq")
    rows = PromptDataset([str(out / "train_nh_qwen.parquet")], "prompt").rows
    for row in rows:
        check_routing_row(row, "paper")
    assert len(rows) == len(source.questions)


@pytest.mark.parametrize(
    ("written", "prepared"),
    [
        ("Name it.", "Name it."),
        ("\u8c01\uff1f", "\u8c01\uff1f"),
        (" who is x ", "who is x?"),
        ("who?\n", "who?"),
    ],
)
def test_questions_end_as_users_questions_do(tmp_path: Path, written: str, prepared: str) -> None:
    (question,) = read_lines(tmp_path, row_line(["a"], written)).questions
    assert question.question == prepared == as_question(written)


def test_the_hub_is_asked_split_by_split(source_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own function, answering from a folder: the network is all that is replaced."""
    asked = []

    def download(repository: str, name: str, repo_type: str) -> str:
        asked.append((repository, name, repo_type))
        path = source_dir / name
        if not path.is_file():
            raise huggingface_hub.errors.EntryNotFoundError("no such file")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    source = read_source("musique", ("test", "dev"), None)
    assert (source.split, len(source.questions)) == ("dev", 10)
    repository = "RUC-NLPIR/FlashRAG_datasets"
    assert asked == [
        (repository, "musique/test.jsonl", "dataset"),
        (repository, "musique/dev.jsonl", "dataset"),
    ]
    with pytest.raises(DataError, match="none of the splits test of popqa"):
        read_source("popqa", ("test",), None)


def test_an_unreachable_hub_points_to_source_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DataError, match="--source_dir"):
        read_source("nq", ("train",), None)


def test_real_questions(tmp_path: Path) -> None:
    folder = REFERENCE.parent / "data" / "flashrag"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    out = prepared("test", tmp_path, folder, "--data_sources", "nq")
    frame = pd.read_parquet(out / "test_nq_qwen.parquet")
    assert len(frame) == 500
    assert all(row["question"].endswith("?") for row in frame.extra_info)


@pytest.mark.parametrize(("file", "kind"), DATA_SCRIPTS.items())
def test_a_script_makes_its_own_kind_of_file(
    file: str, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [file, "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / file), run_name="__main__")
    assert PREPARATIONS[kind].about in " ".join(capsys.readouterr().out.split())


def test_a_preparation_names_files_by_source_and_model() -> None:
    assert len(PREPARATIONS["test"].default_sources) == 7
