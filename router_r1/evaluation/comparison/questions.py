"""The questions of a comparison: those to learn from, and those everybody is judged on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from router_r1.evaluation.baselines.contest import Prompt
from router_r1.world.dataset import data_source
from router_r1.world.knowledge import Knowledge
from verl.utils.dataset import DataError, PromptDataset
from verl.utils.rows import chat_messages, ground_truth, question

_QUESTION_MARKER = "Question: "
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """A question with its accepted answers; ``uid`` is ``{data_source}/{row}``."""

    uid: str
    prompt: Prompt
    golden_answers: list[str]


def world_questions(knowledge: Knowledge, split: str) -> list[Question]:
    """The rows that :func:`router_r1.world.dataset.write_world` writes for the split."""
    return [
        Question(
            f"{data_source(question)}/{row}",
            Prompt(data_source(question), question.text),
            [question.answer],
        )
        for row, question in enumerate(knowledge.questions(split))
    ]


def read_questions(files: Sequence[str]) -> list[Question]:
    """The questions of parquet files whose rows are those that training reads.

    A row says ``data_source``, ``prompt`` and ``reward_model.ground_truth.target``.

    Raises:
        DataError: if a file cannot be used, or a row does not say its question.
    """
    rows = PromptDataset(files, "prompt").rows
    return [
        Question(
            f"{row['data_source']}/{number}",
            Prompt(str(row["data_source"]), _text(row, number)),
            ground_truth(row),
        )
        for number, row in enumerate(rows)
    ]


def _text(row: dict[str, Any], number: int) -> str:
    """What was asked: its own field, or what follows the prompt's last "Question: "."""
    if asked := question(row):
        return asked
    _, marker, rest = chat_messages(row, "prompt")[-1]["content"].rpartition(_QUESTION_MARKER)
    if not marker or not rest.strip():
        raise DataError(
            f"row {number} has neither extra_info.question nor a prompt with {_QUESTION_MARKER!r}"
        )
    return rest.strip()


def sample(items: Sequence[T], count: int, seed: int) -> list[T]:
    """``count`` of them drawn without repetition, in their order; all if there are fewer."""
    if count >= len(items):
        return list(items)
    chosen = sorted(random.Random(f"sample-{seed}").sample(range(len(items)), count))
    return [items[i] for i in chosen]
