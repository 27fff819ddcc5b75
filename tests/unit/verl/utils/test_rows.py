"""Data rows: whatever a field holds, the row is used to the end or refused before the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from router_r1.evaluation.benchmark import read_questions
from router_r1.reward.normalization import normalize_answer
from router_r1.task import RoutingTask
from tests.routed import routed
from verl.config.sampling import Sampling
from verl.config.validation import ConfigError
from verl.interfaces import RolloutOptions, RolloutRequest
from verl.trainer import main_generation, main_ppo
from verl.trainer.evaluation.generate import TRAJECTORIES, evaluation_rows, generate
from verl.trainer.evaluation.score import score_folder
from verl.trainer.launch import load_task_config
from verl.trainer.ppo.validation import validate, validation_metrics
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus
from verl.utils.dataset import DataError, PromptDataset
from verl.utils.rows import ground_truth

ROW: dict[str, Any] = {
    "data_source": "nq",
    "prompt": [{"role": "user", "content": "Question: who?"}],
    "reward_model": {"style": "rule", "ground_truth": {"target": ["Paris", "Paris, France"]}},
    "extra_info": {"index": 0, "question": "who?", "domains": ["film"]},
}
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


def with_value(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    row = deepcopy(ROW)
    holder: Any = row
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return row


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def use_to_the_end(dataset: PromptDataset, task: RoutingTask, tokenizer: Any, folder: Path) -> None:
    """Length check, validation, evaluation, scoring, on every row."""
    dataset.check_lengths(tokenizer, 4096)
    source, reward = AnswersByTheBook(), task.reward()
    result, _ = validate(dataset, source, reward, Sampling(), 0, None, step=0, seed=0)
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
    prompt: Any, words: str, task: RoutingTask, tmp_path: Path
) -> None:
    file = write(tmp_path / "rows.parquet", [{**ROW, "prompt": prompt}])
    with pytest.raises(DataError, match=words):
        PromptDataset([file], "prompt")
    assert len(PromptDataset([file], "prompt", None, task.messages)) == 1


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


@pytest.mark.parametrize("key", ["train_data_num", "val_data_num"])
def test_keeping_no_row_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key} must be > 0, got 0"):
        load_task_config(["recipe=quickstart", f"data.{key}=0"])
