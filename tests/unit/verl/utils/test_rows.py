"""Data rows: what a field must hold, and how a row that cannot be used is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.data_rows import ROW, with_value, write
from verl.config.validation import ConfigError
from verl.trainer.launch import load_task_config
from verl.utils.dataset import DataError, PromptDataset
from verl.utils.rows import ground_truth


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("reward_model",), {"ground_truth": "Paris"}, "reward_model.ground_truth must be an obj"),
        (("reward_model",), {"style": "rule"}, "reward_model.ground_truth must be an object"),
        (("reward_model",), None, "reward_model must be an object"),
        (("reward_model", "ground_truth", "target"), 42, "target must be a text"),
        (("reward_model", "ground_truth", "target"), [1969.0], r"target\[0\] must be a text"),
        (("reward_model", "ground_truth", "target"), [["a", "b"]], r"target\[0\] must be a text"),
        (("reward_model", "ground_truth", "target"), [], "target must hold at least one answer"),
        (("data_source",), 5, r"data_source must be a name .* got 5 \(int\)"),
        (("extra_info",), "x", "extra_info must be an object"),
    ],
)
def test_the_row_and_the_field_are_named(
    path: tuple[str | int, ...], value: Any, words: str, tmp_path: Path
) -> None:
    good = write(tmp_path / "good.parquet", [ROW] * 3)
    bad = write(tmp_path / "bad.parquet", [with_value(path, value)])
    with pytest.raises(DataError, match=rf"1 of 1 rows of .*bad\.parquet .*row 0: .*{words}"):
        PromptDataset([good, bad], "prompt")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Question: who?", "prompt must be a list of chat messages"),
        ([], "prompt must be a list of chat messages"),
        ([{"role": "robot", "content": "x"}], r"prompt\[0\].role must be one of"),
        ([{"role": "user", "content": [{"type": "text"}]}], r"prompt\[0\].content must be a text"),
    ],
)
def test_prompts_of_the_file_are_checked_where_they_are_used(
    prompt: Any, words: str, tmp_path: Path
) -> None:
    file = write(tmp_path / "rows.parquet", [{**ROW, "prompt": prompt}])
    with pytest.raises(DataError, match=words):
        PromptDataset([file], "prompt")
    assert len(PromptDataset([file], "prompt", None, lambda _: ROW["prompt"])) == 1


def test_a_value_that_python_cannot_hold_is_named(tmp_path: Path) -> None:
    dates = pa.array([0, -(2**62)], pa.timestamp("us"))
    table = pa.Table.from_pylist([ROW, ROW]).append_column("asked_at", dates)
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet .*row 1: asked_at cannot be read: date"):
        PromptDataset([str(tmp_path / "rows.parquet")], "prompt")


def test_all_bad_rows_are_counted_and_the_first_shown(tmp_path: Path) -> None:
    rows = [with_value(("data_source",), "" if i % 2 else "nq") for i in range(10)]
    file = write(tmp_path / "rows.parquet", rows)
    with pytest.raises(DataError, match=r"5 of 10 rows .*row 1: .*row 3: .*row 5: .*; …$"):
        PromptDataset([file], "prompt")
    assert len(PromptDataset([file], "prompt", 1)) == 1


def test_one_text_is_one_answer_and_blanks_are_none(tmp_path: Path) -> None:
    targets: list[Any] = ["Paris", ["Paris", " "]]
    for target in targets:
        row = with_value(("reward_model", "ground_truth", "target"), target)
        file = write(tmp_path / "rows.parquet", [row])
        assert ground_truth(PromptDataset([file], "prompt").rows[0]) == ["Paris"]


@pytest.mark.parametrize("key", ["train_data_num", "val_data_num"])
def test_keeping_no_row_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key} must be > 0, got 0"):
        load_task_config(["recipe=quickstart", f"data.{key}=0"])
