"""Data rows in the task's hands: used to the end, or refused before the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from router_r1.evaluation.benchmark import read_questions
from router_r1.reward.normalization import normalize_answer
from router_r1.task import RoutingTask
from tests.data_rows import ROW, with_value, write
from tests.routed import routed
from verl.interfaces import RolloutOptions, RolloutRequest
from verl.trainer import main_generation, main_ppo
from verl.trainer.evaluation.generate import TRAJECTORIES, evaluation_rows, generate
from verl.trainer.evaluation.score import score_folder
from verl.trainer.launch import load_task_config
from verl.trainer.ppo.validation import validate, validation_metrics, validation_requests
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus
from verl.utils.dataset import DataError, PromptDataset
from verl.utils.rows import ground_truth

FIELDS = (
    ("data_source",),
    ("prompt",),
    ("prompt", 0),
    ("prompt", 0, "role"),
    ("prompt", 0, "content"),
    ("reward_model",),
    ("reward_model", "ground_truth"),
    ("reward_model", "ground_truth", "target"),
    ("reward_model", "ground_truth", "target", 0),
    ("extra_info",),
    ("extra_info", "question"),
    ("extra_info", "domains"),
    ("extra_info", "domains", 0),
    ("extra_info", "index"),
)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=6),
    st.datetimes(),
    st.sampled_from(["", " ", "The", "???", "1969", "{question}", "<|im_end|>", "a\x00", "a/b"]),
)
NAMES = st.sampled_from(["role", "content", "ground_truth", "target", "question", "domains", "x"])
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)


class AnswersByTheBook:
    """A source of rollouts whose every answer is the row's first that EM accepts."""

    def rollout(
        self,
        requests: Sequence[RolloutRequest],
        options: RolloutOptions,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory]:
        del options
        trajectories = [self._answer(request) for request in requests]
        if on_finished is not None:
            for trajectory in trajectories:
                on_finished(trajectory)
        return trajectories

    def _answer(self, request: RolloutRequest) -> Trajectory:
        answers = ground_truth(request.row)
        answer = next(a for a in answers if normalize_answer(a))
        text = f"<think>x</think><answer>{answer}</answer>"
        return Trajectory(
            request.uid,
            [Segment(SegmentKind.PROMPT, (1,)), Segment(SegmentKind.ACTION, (2,), (0.0,))],
            TrajectoryStatus.ANSWERED,
            routed([text]),
            request.sample_index,
        )


@pytest.fixture(scope="module")
def task() -> RoutingTask:
    task_class, config = load_task_config(["recipe=quickstart"])
    made = task_class(config)
    assert isinstance(made, RoutingTask)
    return made


def use_to_the_end(dataset: PromptDataset, task: RoutingTask, tokenizer: Any, folder: Path) -> None:
    """Length check, validation, evaluation, scoring, on every row."""
    dataset.check_lengths(tokenizer, 4096)
    source, reward = AnswersByTheBook(), task.reward()
    result, _ = validate(task.config, validation_requests(dataset), source, reward, 0, step=0)
    assert result.mean("em") == 1.0
    metrics = validation_metrics(result, task.columns)
    assert all(metrics[f"val/test_score/EM/{row['data_source']}"] == 1.0 for row in dataset.rows)
    (folder / TRAJECTORIES).unlink(missing_ok=True)
    generate(evaluation_rows(dataset, 1), source, RolloutOptions(), folder)
    (summary, *_) = score_folder(folder / TRAJECTORIES, task.record_class, folder, reward, {}, "em")
    assert summary.estimates["em"].mean == 1.0


@settings(max_examples=150, deadline=None)
@given(path=st.sampled_from(FIELDS), value=VALUE)
def test_any_value_in_any_field_is_used_or_refused(
    path: tuple[str | int, ...],
    value: Any,
    task: RoutingTask,
    tokenizer: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        file = write(folder / "any.parquet", [with_value(path, value)])
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return  # such a row is in no parquet file
    for render in (task.messages, None):
        refusal = None
        try:
            dataset = PromptDataset([file], "prompt", None, render, task.check_row)
        except DataError as error:
            refusal = str(error)
        if refusal is None:
            use_to_the_end(dataset, task, tokenizer, folder)
        else:
            assert f"row 0: {path[0]}" in refusal


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("reward_model", "ground_truth", "target"), ["?!"], r"target holds only punctuation"),
        (("extra_info", "question"), 7, r"extra_info\.question must be a text"),
        (("extra_info", "domains"), "film", r"extra_info\.domains must be a list"),
        (("extra_info", "domains"), [1], r"extra_info\.domains must be a list"),
    ],
)
def test_a_row_without_use_for_routing_is_refused_by_the_task(
    path: tuple[str | int, ...], value: Any, words: str, task: RoutingTask, tmp_path: Path
) -> None:
    file = write(tmp_path / "rows.parquet", [with_value(path, value)])
    assert len(PromptDataset([file], "prompt")) == 1
    with pytest.raises(DataError, match=rf"row 0: .*{words}"):
        PromptDataset([file], "prompt", None, task.messages, task.check_row)


def test_a_comparison_takes_the_question_from_where_it_stands(tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "extra_info": None}]
    file = write(tmp_path / "rows.parquet", rows)
    assert [question.prompt.text for question in read_questions([file])] == ["who?", "who?"]


@pytest.mark.parametrize("main", [main_ppo.main, main_generation.main])
def test_a_row_that_the_task_refuses_ends_the_command_before_ray_starts(
    main: Callable[[list[str]], None],
    policy_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(**_: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", init)
    bad = write(tmp_path / "bad.parquet", [with_value(("extra_info", "domains"), "film")])
    with pytest.raises(DataError, match=r"row 0: extra_info\.domains"):
        main(
            [
                "recipe=quickstart",
                f"trainer.default_local_dir={tmp_path}/run",
                f"world.folder={tmp_path}/world",
                f"data.train_files=[{bad}]",
                f"evaluation.files=[{bad}]",
                f"evaluation.model_path={policy_folder}",
            ]
        )
