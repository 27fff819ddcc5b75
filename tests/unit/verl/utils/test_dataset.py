from __future__ import annotations

from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.data_rows import ROW, write
from verl.config.ppo import DataConfig
from verl.utils.dataset import (
    DataError,
    PromptDataset,
    epoch_rows,
    load_datasets,
    require_chat_template,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """50 rows to train on, 20 of a test."""
    folder = tmp_path_factory.mktemp("rows")
    return {
        name: write(folder / f"{name}.parquet", [ROW] * count)
        for name, count in (("train", 50), ("test", 20))
    }


def test_files_are_joined_and_limited(files: dict[str, str]) -> None:
    paths = [files["train"], files["test"]]
    assert len(PromptDataset(paths, "prompt")) == 70
    assert len(PromptDataset(paths, "prompt", 7)) == 7


def test_bad_files_are_named(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such data file: .*gone\.parquet"):
        PromptDataset([str(tmp_path / "gone.parquet")], "prompt")
    with pytest.raises(DataError, match="no data file given"):
        PromptDataset([], "prompt")
    text = tmp_path / "text.parquet"
    text.write_text("no parquet")
    with pytest.raises(DataError, match="not a readable parquet file"):
        PromptDataset([str(text)], "prompt")
    frame = pd.read_parquet(files["train"])
    narrow = tmp_path / "narrow.parquet"
    frame.drop(columns=["reward_model"]).to_parquet(narrow)
    with pytest.raises(DataError, match="lacks the columns reward_model; it has data_source"):
        PromptDataset([str(narrow)], "prompt")
    with pytest.raises(DataError, match="lacks the columns messages"):
        PromptDataset([files["train"]], "messages")
    empty = tmp_path / "empty.parquet"
    frame.head(0).to_parquet(empty)
    with pytest.raises(DataError, match="has no rows"):
        PromptDataset([str(empty)], "prompt")


def test_a_batch_needs_enough_rows(files: dict[str, str]) -> None:
    config = DataConfig(
        train_files=[files["train"]], val_files=[files["test"]], train_batch_size=51
    )
    with pytest.raises(DataError, match="50 training rows are fewer"):
        load_datasets(config)


def test_epochs_are_seeded_and_whole() -> None:
    def take(seed: int) -> list[list[int]]:
        rows = epoch_rows(20, 4, seed, shuffle=True)
        return [list(islice(rows, 4)) for _ in range(10)]

    assert take(1) == take(1) != take(2)
    first, second = take(1)[:5], take(1)[5:]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(20))
    assert first != second


def test_order_without_shuffling() -> None:
    rows = epoch_rows(5, 2, seed=0, shuffle=False)
    assert list(islice(rows, 6)) == [0, 1, 2, 3, 0, 1]


def test_a_tokenizer_without_chat_template_is_refused(tokenizer: Any) -> None:
    require_chat_template(tokenizer, "here")

    class Bare:
        chat_template = None

    with pytest.raises(DataError, match="tokenizer of here has no chat template"):
        require_chat_template(Bare(), "here")  # type: ignore[arg-type]
