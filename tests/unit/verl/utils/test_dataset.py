from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from router_r1.pool.config import PoolConfig
from router_r1.world.config import WorldConfig
from router_r1.world.dataset import write_world
from router_r1.world.simulated_llm import World
from verl.config.ppo import DataConfig
from verl.utils.dataset import (
    DataError,
    PromptDataset,
    RowOrder,
    epoch_batches,
    ground_truth,
    load_datasets,
    require_chat_template,
)


@pytest.fixture(scope="module")
def files(embedded_pool: PoolConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    small = WorldConfig(train_questions=50, validation_questions=20, test_questions=20)
    return write_world(World(small), embedded_pool, tmp_path_factory.mktemp("world"))


def test_world_files_have_the_rows_that_training_reads(
    files: dict[str, Path], tokenizer: Any
) -> None:
    data = PromptDataset([str(files["train"])], "prompt")
    assert len(data) == 50
    row = data.rows[0]
    assert row["ability"] == "fact-reasoning"
    assert row["data_source"] in ("world_onehop", "world_twohop")
    assert row["reward_model"]["style"] == "rule"
    assert row["extra_info"]["split"] == "train"
    assert ground_truth(row)[0] not in row["prompt"][0]["content"]
    assert row["prompt"][0]["content"].rstrip().endswith("?")
    data.check_lengths(tokenizer, 256)
    with pytest.raises(DataError, match="max_start_length=20"):
        data.check_lengths(tokenizer, 20)


def test_files_are_joined_and_limited(files: dict[str, Path]) -> None:
    paths = [str(files["train"]), str(files["test"])]
    assert len(PromptDataset(paths, "prompt")) == 70
    assert len(PromptDataset(paths, "prompt", 7)) == 7


def test_bad_files_are_named(files: dict[str, Path], tmp_path: Path) -> None:
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
        PromptDataset([str(files["train"])], "messages")
    empty = tmp_path / "empty.parquet"
    frame.head(0).to_parquet(empty)
    with pytest.raises(DataError, match="has no rows"):
        PromptDataset([str(empty)], "prompt")


def test_a_batch_needs_enough_rows(files: dict[str, Path]) -> None:
    config = DataConfig(
        train_files=[str(files["train"])], val_files=[str(files["test"])], train_batch_size=51
    )
    with pytest.raises(DataError, match="50 training rows are fewer"):
        load_datasets(config)


def test_epochs_are_seeded_and_whole() -> None:
    def take(seed: int) -> list[list[int]]:
        batches = epoch_batches(20, 4, seed, shuffle=True)
        return [next(batches)[1] for _ in range(10)]

    assert take(1) == take(1) != take(2)
    first, second = take(1)[:5], take(1)[5:]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(20))
    assert first != second


def test_order_without_shuffling() -> None:
    batches = epoch_batches(5, 2, seed=0, shuffle=False)
    assert [next(batches) for _ in range(3)] == [(0, [0, 1]), (0, [2, 3]), (1, [0, 1])]


def test_the_order_goes_on_from_any_position() -> None:
    straight = RowOrder(20, 4, 1, shuffle=True)
    expected = [straight.draw() for _ in range(10)]
    half = RowOrder(20, 4, 1, shuffle=True)
    assert [half.draw() for _ in range(7)] == expected[:7], "into the second epoch"
    later = RowOrder(20, 4, 1, shuffle=True)
    later.load_state_dict(half.state_dict())
    assert [later.draw() for _ in range(3)] == expected[7:]
    assert later.state_dict() == straight.state_dict()


def test_a_tokenizer_without_chat_template_is_refused(tokenizer: Any) -> None:
    require_chat_template(tokenizer, "here")

    class Bare:
        chat_template = None

    with pytest.raises(DataError, match="tokenizer of here has no chat template"):
        require_chat_template(Bare(), "here")  # type: ignore[arg-type]
