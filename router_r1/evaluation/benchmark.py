"""What a comparison is about: its pool, and the questions to learn from and to be compared on.

Guarantees: no question of the test is among those to learn from; every router is compared on the
same questions.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from router_r1.data_row import question
from router_r1.evaluation.comparison import read_json_object
from router_r1.llm_agent.trajectory import QuestionRecord
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.world import knowledge
from router_r1.world.config import WorldConfig
from router_r1.world.dataset import data_source
from router_r1.world.simulated_llm import World
from verl.config.validation import ConfigError
from verl.trainer.evaluation.records import EvaluationRecord, RecordError, read_parquet
from verl.trainer.evaluation.score import RESULTS, scored_file
from verl.utils.dataset import DataError, PromptDataset
from verl.utils.rows import chat_messages, ground_truth

_MARKER = "Question: "
FEWEST_TO_LEARN_FROM = 20
T = TypeVar("T")


@dataclass(frozen=True)
class Prompt:
    """What a baseline may know of a question: its text and which benchmark it is from."""

    data_source: str
    text: str


@dataclass(frozen=True)
class Question:
    """A question with its accepted answers; ``uid`` is ``{data_source}/{row}``."""

    uid: str
    prompt: Prompt
    golden_answers: list[str]


@dataclass(frozen=True)
class Benchmark:
    """The questions and the pool; ``world`` is None on real data."""

    title: str
    pool: PoolConfig
    train: list[Question]
    test: list[Question]
    world: World | None

    @property
    def world_test(self) -> list[knowledge.Question]:
        """The test questions with their chains of facts; none on real data."""
        if self.world is None:
            return []
        texts = {question.prompt.text for question in self.test}
        return [q for q in self.world.knowledge.questions("test") if q.text in texts]


def load_benchmark(args: argparse.Namespace) -> Benchmark:
    """The embedded world, or parquet files.

    Raises:
        UserError: for files or a pool that cannot be used, or too few questions to learn from.
    """
    pool = load_pool(args.pool)
    if args.api_base:
        pool = replace(pool, api_base=args.api_base)
    if args.test_files:
        train, test = read_questions(args.train_files), read_questions(args.test_files)
        title, world = "Comparison", None
    elif not pool.simulated:
        raise ConfigError(
            f"pool {pool.name!r} is not the embedded world's; give --train_files and "
            "--test_files for another"
        )
    else:
        world = World(WorldConfig(seed=args.world_seed), pool.simulated_names)
        train, test = (world_questions(world.knowledge, split) for split in ("train", "test"))
        title = "Embedded world, test split"
    test = sample(test, args.test_questions or len(test), args.seed)
    known = {question.prompt.text for question in test}
    train = [question for question in train if question.prompt.text not in known]
    train = sample(train, args.train_questions, args.seed)
    if len(train) < FEWEST_TO_LEARN_FROM:
        raise ConfigError(
            f"{len(train)} training questions (those of the test are left out) are too few; at "
            f"least {FEWEST_TO_LEARN_FROM} are needed"
        )
    return Benchmark(title, pool, train, test, world)


def world_questions(facts: knowledge.Knowledge, split: str) -> list[Question]:
    """The rows that :func:`router_r1.world.dataset.write_world` writes for the split."""
    return [
        Question(f"{data_source(q)}/{row}", Prompt(data_source(q), q.text), [q.answer])
        for row, q in enumerate(facts.questions(split))
    ]


def read_questions(files: Sequence[str]) -> list[Question]:
    """The questions of parquet files whose rows are those that training reads.

    What was asked is ``extra_info.question``, or what follows the prompt's last "Question: ".

    Raises:
        DataError: if a file cannot be used, or a row does not say its question.
    """
    questions = []
    for number, row in enumerate(PromptDataset(files, "prompt").rows):
        source, text = str(row["data_source"]), question(row)
        if not text:
            _, marker, rest = chat_messages(row, "prompt")[-1]["content"].rpartition(_MARKER)
            text = marker and rest.strip()
        if not text:
            raise DataError(
                f"row {number} has neither extra_info.question nor a prompt with {_MARKER!r}"
            )
        questions.append(Question(f"{source}/{number}", Prompt(source, text), ground_truth(row)))
    return questions


def sample(items: Sequence[T], count: int, seed: int) -> list[T]:
    """``count`` of them drawn without repetition, in their order; all if there are fewer."""
    if count >= len(items):
        return list(items)
    chosen = sorted(random.Random(f"sample-{seed}").sample(range(len(items)), count))
    return [items[i] for i in chosen]


def kind_of(name: str) -> str:
    """Of a router evaluated before: ``prompt`` for the names of an untrained policy."""
    return "prompt" if name.lower() in ("prompt", "prompt-only", "untrained") else "router"


def seconds_waited(calls: Iterable[tuple[int, float]]) -> float:
    """For the slowest call of each turn, whose calls are made at once; from the turn and the
    seconds of each."""
    slowest: dict[int, float] = {}
    for turn, seconds in calls:
        slowest[turn] = max(seconds, slowest.get(turn, 0.0))
    return sum(slowest.values())


def read_saved(
    folder: Path, questions: Sequence[Question], normalization: str = "paper"
) -> list[EvaluationRecord]:
    """Scored records of these questions, of a router evaluated before; of its calls no more than
    the score ``latency_s``, where they are told.

    Raises:
        RecordError: if there is no evaluation, if it lacks one of the questions, or if its answers
            were normalised otherwise: such rows cannot be compared.
    """
    path = scored_file(folder, QuestionRecord)
    scored_with = (read_json_object(folder / RESULTS) or {}).get("normalization", "paper")
    if scored_with != normalization:
        raise RecordError(
            f"{folder} was scored with reward.normalization={scored_with}, and this comparison "
            f"with --normalization {normalization}; score again, or compare with {scored_with}"
        )
    wanted = {(q.prompt.data_source, q.prompt.text) for q in questions}
    saved: Sequence[EvaluationRecord[Any]] = read_parquet(path, _Waited)
    records = [
        replace(r, trajectory=QuestionRecord(), scores=r.trajectory.scores | r.scores)
        for r in saved
        if (r.data_source, r.prompt) in wanted
    ]
    if missing := wanted - {(r.data_source, r.prompt) for r in records}:
        raise RecordError(
            f"{path} lacks {len(missing)} of the {len(wanted)} questions compared on, such as "
            f"{min(missing)[1]!r}; evaluate the router on the same questions, or compare on fewer "
            "with --test_files"
        )
    return records


@dataclass(frozen=True)
class _Waited(QuestionRecord):
    """``latency_s``: seconds that a question waited for its calls, see :func:`seconds_waited`;
    nothing of an agent whose calls do not say it."""

    scores: dict[str, float]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> _Waited:
        try:
            calls = [(call["turn"], call["latency_s"]) for call in content["calls"]]
        except (KeyError, TypeError):
            return cls({})
        return cls({"latency_s": seconds_waited(calls)})
