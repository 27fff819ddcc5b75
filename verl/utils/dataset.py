"""Parquet files of prompts, and the order in which training sees them.

Guarantees: a file or row that cannot be used is refused when the dataset is made, naming file, row
and field; the order of the rows is a function of the seed and the epoch alone.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet
from jinja2 import TemplateError

from verl.config.ppo import DataConfig
from verl.config.validation import ConfigError
from verl.errors import UserError
from verl.interfaces import RolloutRequest
from verl.utils.arrow import arrow_path
from verl.utils.chat_template import ChatTemplate
from verl.utils.rows import (
    Messages,
    Row,
    RowError,
    chat_messages,
    data_source,
    extra_info,
    ground_truth,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REQUIRED_COLUMNS = ("data_source", "reward_model")
_SHOWN_LENGTHS = 5
_SHOWN_FAULTS = 3


class DataError(UserError):
    """A data file that cannot be used."""


class PromptDataset:
    """Rows of one or more parquet files.

    Args:
        prompt_key: the column with the chat messages.
        limit: keep only the first so many rows; None keeps all.
        render: makes a row's messages; None takes those in the file.
        check: raises :class:`~verl.utils.rows.RowError` for a row that the task cannot use.

    Raises:
        DataError: naming the missing file or columns, the empty file, or the rows that cannot be
            used and their fields.
    """

    def __init__(
        self,
        files: Sequence[str],
        prompt_key: str,
        limit: int | None = None,
        render: Callable[[Row], Messages] | None = None,
        check: Callable[[Row], None] | None = None,
    ) -> None:
        if not files:
            raise DataError("no data file given; set data.train_files and data.val_files")
        self._messages = render or functools.partial(chat_messages, key=prompt_key)
        self.rows: list[Row] = []
        self._origins: list[tuple[str, int]] = []
        for file in files:
            rows = read_rows(Path(file), (prompt_key, *REQUIRED_COLUMNS))
            rows = rows if limit is None else rows[: limit - len(self.rows)]
            self._refuse_bad_rows(file, rows, check)
            self.rows += rows
            self._origins += [(file, number) for number in range(len(rows))]

    def _refuse_bad_rows(
        self, file: str, rows: list[Row], check: Callable[[Row], None] | None
    ) -> None:
        faults = []
        for number, row in enumerate(rows):
            try:
                data_source(row)
                ground_truth(row)
                extra_info(row)
                self._messages(row)
                if check is not None:
                    check(row)
            except RowError as error:
                faults.append(f"row {number}: {error}")
        if faults:
            more = "; …" if len(faults) > _SHOWN_FAULTS else ""
            raise DataError(
                f"{len(faults)} of {len(rows)} rows of {file} cannot be used (rows count from 0): "
                f"{'; '.join(faults[:_SHOWN_FAULTS])}{more}"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def request(self, index: int, uid: str, sample_index: int = 0) -> RolloutRequest:
        """The rollout request of one row."""
        row = self.rows[index]
        return RolloutRequest(uid, self._messages(row), sample_index, row)

    def check_lengths(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_start_length: int,
        template_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises :class:`DataError` if a prompt is longer than ``max_start_length`` tokens, or the
        chat template refuses its messages; ``template_options`` are the template's."""
        template = ChatTemplate(tokenizer, template_options)
        texts = []
        for row, (file, number) in zip(self.rows, self._origins, strict=True):
            try:
                texts.append(template.text(self._messages(row))[0])
            except TemplateError as error:
                raise DataError(
                    f"row {number} of {file} (rows count from 0): the model's chat template "
                    f"refuses its messages: {error}"
                ) from error
        lengths = template.lengths(texts)
        long = [i for i, length in enumerate(lengths) if length > max_start_length]
        if long:
            raise DataError(
                f"{len(long)} of {len(lengths)} prompts are longer than data.max_start_length="
                f"{max_start_length} tokens (longest: {max(lengths)}): {self._places(long)}; "
                "prompts are never cut: raise the limit or drop these rows"
            )

    def _places(self, indices: Sequence[int]) -> str:
        """Some of the rows by file, as a person would look them up."""
        by_file: dict[str, list[str]] = {}
        for index in indices[:_SHOWN_LENGTHS]:
            file, number = self._origins[index]
            by_file.setdefault(file, []).append(str(number))
        shown = "; ".join(f"{', '.join(numbers)} of {file}" for file, numbers in by_file.items())
        more = " and others" if len(indices) > _SHOWN_LENGTHS else ""
        return f"rows {shown}{more} (counted from 0)"


@dataclass(frozen=True)
class Datasets:
    """What a run trains on and what it validates on."""

    train: PromptDataset
    validation: PromptDataset


def load_datasets(
    config: DataConfig,
    render: Callable[[Row], Messages] | None = None,
    check: Callable[[Row], None] | None = None,
) -> Datasets:
    """Reads the files of a run; for ``render`` and ``check`` see :class:`PromptDataset`. Raises
    :class:`DataError` if they cannot be used, or hold fewer rows than one training batch."""
    key = config.prompt_key
    train = PromptDataset(config.train_files, key, config.train_data_num, render, check)
    validation = PromptDataset(config.val_files, key, config.val_data_num, render, check)
    if len(train) < config.train_batch_size:
        raise DataError(
            f"{len(train)} training rows are fewer than data.train_batch_size="
            f"{config.train_batch_size}"
        )
    return Datasets(train, validation)


def epoch_rows(size: int, batch_size: int, seed: int, shuffle: bool) -> Iterator[int]:
    """Endless row indices: each epoch in an order of its own, what fills no batch of it dropped.
    Raises :class:`ValueError` if there are fewer rows than a batch needs."""
    if size < batch_size:
        raise ValueError(f"{size} rows do not fill a batch of {batch_size}")
    for epoch in itertools.count():
        order = np.arange(size)
        if shuffle:
            np.random.default_rng([seed, epoch]).shuffle(order)
        yield from order[: size - size % batch_size].tolist()


def load_tokenizer(path: str, local_only: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name; ``local_only`` leaves the hub alone. Raises
    :class:`ConfigError` if it cannot be loaded, :class:`DataError` without a chat template."""
    from transformers import AutoTokenizer  # imports the models' code; see verl.workers

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=local_only)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the model {path!r} is neither a checkpoint folder nor a model of the hub: "
            f"{str(error).splitlines()[0]}"
        ) from error
    require_chat_template(tokenizer, path)
    return tokenizer


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Padding is masked by lengths, so any id will do where the tokenizer has none."""
    pad: Any = tokenizer.pad_token_id
    return int(pad) if pad is not None else 0


def require_chat_template(tokenizer: PreTrainedTokenizerBase, path: str) -> None:
    """Raises :class:`DataError` if the tokenizer cannot format messages."""
    if not tokenizer.chat_template:
        raise DataError(
            f"the tokenizer of {path} has no chat template; use an instruction-tuned model or "
            "add chat_template.jinja to its folder"
        )


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """All rows of a parquet file; raises :class:`DataError` if it is missing, unreadable or empty,
    or lacks one of the columns."""
    if not path.is_file():
        raise DataError(f"no such data file: {path}")
    try:
        table = pyarrow.parquet.read_table(arrow_path(path))
    except Exception as error:  # pyarrow raises whatever a damaged file leads it to
        raise DataError(f"{path} is not a readable parquet file: {error}") from error
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.column_names)}"
        )
    if not table.num_rows:
        raise DataError(f"{path} has no rows")
    try:
        rows: list[Row] = table.to_pylist()
    except Exception as error:  # a date beyond Python's, a text that is not UTF-8
        raise DataError(f"{path} cannot be used: {_first_unreadable(table)}: {error}") from error
    return rows


def _first_unreadable(table: pyarrow.Table) -> str:
    """Which value has no form in Python."""
    for name in table.column_names:
        for number, value in enumerate(table.column(name)):
            try:
                value.as_py()
            except Exception:
                return f"row {number}: {name} cannot be read"
    return "its rows cannot be read"
