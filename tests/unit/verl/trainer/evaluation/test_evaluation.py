from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl.errors import UserError
from verl.interfaces import RewardOutput, RolloutOptions, RolloutRequest
from verl.protocol import DataProto
from verl.trainer.evaluation.generate import TRAJECTORIES, generate, prepare_folder
from verl.trainer.evaluation.records import (
    EvaluationRecord,
    RecordError,
    RecordLog,
    read_keys,
    read_log,
    read_parquet,
    write_parquet,
)
from verl.trainer.evaluation.score import score_folder, scored_file
from verl.trainer.evaluation.summary import summarise
from verl.trainer.launch import load_task_config
from verl.trajectory import AgentRecord, Trajectory, TrajectoryStatus
from verl.utils.checkpoints import actor_to_score


@dataclass(frozen=True)
class Told(AgentRecord):
    """What an agent tells."""

    text: str
    price: float = 1.5


class RightText:
    """A reward: 1 for a text that is the answer."""

    def __call__(self, batch: DataProto, validate: bool) -> RewardOutput:
        assert validate
        rows = zip(*(batch.non_tensor_batch[c] for c in ("record", "ground_truth")), strict=True)
        right = np.array([float(told.text in truth) for told, truth in rows])
        return RewardOutput(right, {"metric": right, "em": right})

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {}


def record(
    row: int = 0, sample: int = 0, source: str = "a", text: str = "é\n", **scores: float
) -> EvaluationRecord[Told]:
    return EvaluationRecord(
        uid=f"{source}/{row}",
        sample_index=sample,
        data_source=source,
        prompt=f"who is {row}?",
        ground_truth=[f"answer {row}", "b"],
        status="answered",
        trajectory=Told(text),
        scores=scores,
    )


def test_a_log_keeps_every_record(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    assert read_log(path, Told) == []
    for first in (0, 3):  # a second session appends
        log = RecordLog(path)
        for row in range(first, first + 3):
            log.append(record(row))
        log.close()
    assert read_log(path, Told) == [record(row) for row in range(6)]
    assert read_keys(path) == {(f"a/{row}", 0) for row in range(6)}


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_line_cut_by_a_crash_is_dropped_and_written_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log.jsonl"
    log = RecordLog(path)
    for row in range(3):
        log.append(record(row))
    log.close()
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_log(path, Told) == [record(0), record(1)]
    log = RecordLog(path)
    log.append(record(2))
    log.close()
    assert read_log(path, Told) == [record(row) for row in range(3)]


def test_a_log_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"uid": "x"}\n')
    with pytest.raises(RecordError, match="line 1 is no evaluation record"):
        read_log(path, Told)


def test_parquet_gives_back_what_went_in(tmp_path: Path) -> None:
    records = [record(0, em=1.0), record(1, f1=0.5, reward=-1.0), record(2)]
    write_parquet(tmp_path / "q.parquet", records)
    assert read_parquet(tmp_path / "q.parquet", Told) == records
    with pytest.raises(RecordError, match="no such file"):
        read_parquet(tmp_path / "gone.parquet", Told)
    (tmp_path / "bad.parquet").write_text("x")
    with pytest.raises(RecordError, match="no file of evaluation records"):
        read_parquet(tmp_path / "bad.parquet", Told)


def test_means_are_over_questions_and_the_average_over_datasets() -> None:
    """A question sampled four times weighs as much as one sampled once."""
    records = [
        *(record(0, k, em=float(k == 0)) for k in range(4)),
        record(1, em=1.0),
        record(0, source="b", em=0.0),
    ]
    a, b, everything = summarise(records, "em")
    assert (a.data_source, a.prompts, a.samples) == ("a", 2, 5)
    assert a.estimates["em"].mean == pytest.approx((0.25 + 1.0) / 2)
    assert a.estimates["pass@4"].mean == 1.0
    assert a.estimates["avg@4"] == a.estimates["em"]
    assert (b.data_source, b.estimates["em"].mean) == ("b", 0.0)
    assert (everything.data_source, everything.prompts) == ("all", 3)
    assert everything.estimates["em"].mean == pytest.approx(a.estimates["em"].mean / 2)
    assert summarise(records, "em") == summarise(records, "em"), "the same intervals each time"
    with pytest.raises(ValueError, match="no records"):
        summarise([], "em")


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """95% of the intervals of 60 fair coins hold 0.5, within four standard errors."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(120):
        records = [record(i, em=float(x)) for i, x in enumerate(rng.integers(0, 2, 60))]
        estimate = summarise(records, "em")[0].estimates["em"]
        covered += estimate.low <= 0.5 <= estimate.high
    assert covered >= 120 * (0.95 - 4 * 0.02)
    assert estimate.high - estimate.low == pytest.approx(4 * 0.5 / 60**0.5, rel=0.2)


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_an_interval_holds_its_mean(values: list[float]) -> None:
    estimate = summarise([record(i, cost=x) for i, x in enumerate(values)], "em")[0].estimates[
        "cost"
    ]
    assert estimate.mean == pytest.approx(float(np.mean(values)))
    assert min(values) - 1e-9 <= estimate.low <= estimate.high <= max(values) + 1e-9


def test_scores_are_the_rewards_in_order_of_the_questions(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "log.jsonl")
    for one in (record(1, text="wrong"), record(0, text="answer 0")):
        log.append(one)
    log.close()
    score_folder(tmp_path / "log.jsonl", Told, tmp_path, RightText(), {}, "em")
    scored = read_parquet(scored_file(tmp_path, Told), Told)
    assert [(one.uid, one.scores["em"]) for one in scored] == [("a/0", 1.0), ("a/1", 0.0)]


def test_fewer_questions_and_samples_can_be_scored_than_are_there(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "log.jsonl")
    for row in range(4):
        for sample in range(3):
            log.append(record(row, sample))
    log.close()

    def scored(**wanted: int) -> list[tuple[str, int]]:
        score_folder(tmp_path / "log.jsonl", Told, tmp_path, RightText(), {}, "em", **wanted)
        return [record.key for record in read_parquet(scored_file(tmp_path, Told), Told)]

    assert len(scored()) == 12
    assert scored(limit=2, n_samples=1) == [("a/0", 0), ("a/1", 0)]
    assert scored(n_samples=2)[:3] == [("a/0", 0), ("a/0", 1), ("a/1", 0)]


def test_nothing_to_score_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="main_generation first"):
        score_folder(tmp_path / "gone.jsonl", Told, tmp_path, RightText(), {}, None)


def test_the_newest_checkpoint_is_scored(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train first"):
        actor_to_score(tmp_path)
    for step in (5, 40, 100):
        actor = tmp_path / "checkpoints" / f"global_step_{step}" / "actor"
        actor.mkdir(parents=True)
        if step != 100:  # the last was cut off
            (actor / "config.json").write_text("{}")
    assert actor_to_score(tmp_path).parent.name == "global_step_40"


@pytest.mark.parametrize(("temperature", "starts_anew"), [(0.0, False), (1.0, True)])
def test_trajectories_of_another_seed_are_kept_apart_where_tokens_are_sampled(
    tmp_path: Path, temperature: float, starts_anew: bool
) -> None:
    for seed in (1, 2):
        overrides = (
            *("recipe=quickstart", f"evaluation.folder={tmp_path}", f"trainer.seed={seed}"),
            f"actor_rollout_ref.rollout.val.temperature={temperature}",
        )
        _, config = load_task_config(overrides)
        prepare_folder(config, Path("model"), Told)
        (tmp_path / TRAJECTORIES).touch()
    assert (tmp_path / f"replaced_{TRAJECTORIES}").exists() is starts_anew


def test_trajectories_of_another_form_are_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = ("recipe=quickstart", f"evaluation.folder={tmp_path}")
    _, config = load_task_config(overrides)
    for record_class in (AgentRecord, Told, Told):
        (tmp_path / TRAJECTORIES).write_text(record_class.__name__)
        with caplog.at_level("INFO"):
            prepare_folder(config, Path("model"), record_class)
    aside = tmp_path / f"replaced_{TRAJECTORIES}"
    assert aside.read_text() == "Told"
    assert caplog.text.count(str(aside)) == 2, "the first found other settings, the last the same"


def test_a_log_of_an_older_form_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "log.jsonl")
    log.append(record(0))
    log.close()
    line = json.loads((tmp_path / "log.jsonl").read_text())
    del line["extras"]["text"]
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(RecordError, match=r"line 1.*'text'.*main_generation sets the file aside"):
        read_log(tmp_path / "log.jsonl", Told)


CHAT = [{"role": "user", "content": "Who?"}]
NQ_ROW = {"data_source": "nq", "reward_model": {"ground_truth": {"target": ["x"]}}}


class FlakySource:
    """Breaks the trajectories of some questions, each so many times.

    Args:
        broken: how often, by uid.
    """

    def __init__(self, broken: dict[str, int]) -> None:
        self.broken = Counter(broken)
        self.asked: list[str] = []

    def rollout(
        self,
        requests: Sequence[RolloutRequest],
        options: RolloutOptions,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory]:
        assert options.temperature == 0.0
        assert on_finished is not None
        ended = []
        for request in requests:
            self.asked.append(request.uid)
            broken = self.broken[request.uid] > 0
            self.broken[request.uid] -= 1
            trajectory = Trajectory(request.uid, [], TrajectoryStatus.ANSWERED, excluded=broken)
            ended.append(trajectory)
            on_finished(trajectory)
        return ended


def nq_requests(count: int) -> list[RolloutRequest]:
    return [RolloutRequest(f"nq/{i}", CHAT, row=NQ_ROW) for i in range(count)]


GREEDY = RolloutOptions(temperature=0.0)


def test_a_trajectory_that_infrastructure_broke_is_asked_once_more(tmp_path: Path) -> None:
    source = FlakySource({"nq/1": 1})
    assert generate(nq_requests(3), source, GREEDY, tmp_path) == 3
    assert source.asked == ["nq/0", "nq/1", "nq/2", "nq/1"]
    assert [r.uid for r in read_log(tmp_path / TRAJECTORIES, AgentRecord)] == [
        "nq/0",
        "nq/2",
        "nq/1",
    ]


def test_broken_trajectories_are_not_done_and_a_second_evaluation_asks_them(
    tmp_path: Path,
) -> None:
    source = FlakySource({"nq/1": 2, "nq/2": 2})
    with pytest.raises(UserError) as stopped:
        generate(nq_requests(3), source, GREEDY, tmp_path, describe_failures=lambda: "A is down")
    assert str(stopped.value).startswith(
        "2 trajectories failed for no fault of the policy's (A is down); 1 of 3 trajectories are "
        f"kept in {tmp_path}: "
    )
    assert [r.uid for r in read_log(tmp_path / TRAJECTORIES, AgentRecord)] == ["nq/0"]
    source.asked.clear()
    assert generate(nq_requests(3), source, GREEDY, tmp_path) == 2
    assert source.asked == ["nq/1", "nq/2"]
    assert len(read_log(tmp_path / TRAJECTORIES, AgentRecord)) == 3


def test_an_evaluation_stops_on_the_way_when_the_task_says_so(tmp_path: Path) -> None:
    """The LLMs are lost after 100 of 1000 questions."""
    source = FlakySource({f"nq/{i}": 9 for i in range(100, 1000)})

    def stop_reason() -> str | None:
        return "nobody answers" if len(source.asked) > 100 else None

    with pytest.raises(UserError, match="nobody answers; 100 of 1000 trajectories are kept"):
        generate(nq_requests(1000), source, GREEDY, tmp_path, stop_reason)
    assert len(source.asked) < 200
    assert len(read_log(tmp_path / TRAJECTORIES, AgentRecord)) == 100


def test_a_reason_to_stop_at_the_end_is_told_with_what_is_kept(tmp_path: Path) -> None:
    source = FlakySource({"nq/2": 1})
    with pytest.raises(UserError, match="the budget is used up; 2 of 3 trajectories are kept"):
        generate(nq_requests(3), source, GREEDY, tmp_path, lambda: "the budget is used up")
    assert source.asked == ["nq/0", "nq/1", "nq/2"]


def test_a_reason_to_stop_does_not_spoil_an_evaluation_that_is_whole(tmp_path: Path) -> None:
    source = FlakySource({})
    assert generate(nq_requests(3), source, GREEDY, tmp_path, lambda: "many calls failed") == 3
