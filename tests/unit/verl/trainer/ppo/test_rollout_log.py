"""What a run keeps of its trajectories can be read again, and does not grow without bound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl.config.ppo import SamplesConfig
from verl.config.validation import ConfigError
from verl.interfaces import RewardOutput, RolloutRequest
from verl.trainer.evaluation.records import EvaluationRecord, RecordError
from verl.trainer.ppo.rollout_log import (
    SampleLog,
    read_trajectories,
    spread,
    write_trajectories,
)
from verl.trainer.ppo.scored_rollout import ScoredRollout
from verl.trainer.run_folder import claim_run_folder
from verl.trajectory import AgentRecord, Segment, SegmentKind, Trajectory, TrajectoryStatus, collate

ODD_TEXT = "a\u2028b\u0085c\nd 東京 \ud800"


@dataclass(frozen=True)
class Told(AgentRecord):
    prompt_name = "question"

    text: str
    num_turns: int
    flag: bool


@dataclass(frozen=True)
class Other(AgentRecord):
    answer: str


def rollout(count: int) -> tuple[list[RolloutRequest], list[Trajectory]]:
    """``count`` trajectories, two samples a prompt; the answers hold odd characters."""
    requests, trajectories = [], []
    for i in range(count):
        row = {
            "data_source": "nq",
            "reward_model": {"ground_truth": {"target": [f"answer {i}"]}},
            "extra_info": {"question": f"question {i}?", "domains": ["sport"]},
        }
        prompt = [{"role": "user", "content": "the whole prompt"}]
        requests.append(RolloutRequest(f"row-{i // 2}", prompt, i % 2, row))
        segments = [Segment(SegmentKind.PROMPT, (1,))]
        told = Told(ODD_TEXT, 2, flag=True)
        trajectories.append(
            Trajectory(f"row-{i // 2}", segments, TrajectoryStatus.ANSWERED, told, i % 2)
        )
    return requests, trajectories


def scored(count: int) -> ScoredRollout:
    requests, trajectories = rollout(count)
    reward = RewardOutput(np.arange(count) / 8, {"em": np.ones(count)})
    return ScoredRollout(requests, trajectories, collate(trajectories, 0), reward)


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "validation" / "step_0.jsonl"
    requests, trajectories = rollout(3)
    write_trajectories(path, requests, trajectories, {"reward": np.array([0.5, 0.25, 0.0])})
    records = read_trajectories(path, Told)
    assert [record.key for record in records] == [("row-0", 0), ("row-0", 1), ("row-1", 0)]
    first = records[0]
    assert (first.prompt, first.ground_truth) == ("question 0?", ["answer 0"])
    assert (first.data_source, first.status) == ("nq", "answered")
    assert first.scores["reward"] == 0.5
    assert first.scores["num_turns"] == 2.0
    assert first.trajectory == Told(ODD_TEXT.replace("\ud800", "?"), 2, flag=True)
    assert first.domains == ["sport"]
    assert not {"excluded", "flag"} & first.scores.keys(), "a truth value is no number"
    assert isinstance(first, EvaluationRecord)


def test_a_line_that_is_no_trajectory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "step_0.jsonl"
    path.write_text('{"uid": "val-0", "status": "answered"}\n', encoding="utf-8")
    with pytest.raises(RecordError, match=r"step_0\.jsonl line 1"):
        read_trajectories(path, Told)


def test_a_record_of_another_agent_is_not_misread(tmp_path: Path) -> None:
    path = tmp_path / "step_0.jsonl"
    write_trajectories(path, *rollout(1), {"reward": np.array([0.5])})
    with pytest.raises(RecordError, match=r"step_0\.jsonl line 1.*KeyError"):
        read_trajectories(path, Other)


def test_samples_of_the_newest_steps_are_kept(tmp_path: Path) -> None:
    log = SampleLog(tmp_path, SamplesConfig(per_step=2, keep_steps=3))
    for step in range(1, 6):
        log.write(step, scored(8))
    files = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert files == ["step_3.jsonl", "step_4.jsonl", "step_5.jsonl"]
    kept = read_trajectories(tmp_path / "samples" / "step_5.jsonl", Told)
    assert [(record.prompt, record.scores["reward"]) for record in kept] == [
        ("question 0?", 0.0),
        ("question 4?", 0.5),
    ]


def test_no_samples_are_kept_where_none_are_wanted(tmp_path: Path) -> None:
    SampleLog(tmp_path, SamplesConfig(per_step=0)).write(1, scored(4))
    assert not (tmp_path / "samples").exists()


def test_samples_that_cannot_be_written_do_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "samples").write_text("a file where the folder should be", encoding="utf-8")
    SampleLog(tmp_path, SamplesConfig()).write(7, scored(4))
    assert "samples of step 7 were not written" in caplog.text


def test_the_next_run_of_this_name_sets_the_samples_aside(tmp_path: Path) -> None:
    SampleLog(tmp_path, SamplesConfig()).write(9, scored(4))
    with claim_run_folder(tmp_path):
        assert not (tmp_path / "samples").exists()


@pytest.mark.parametrize("settings", [{"per_step": -1}, {"keep_steps": 0}])
def test_senseless_numbers_of_samples_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.samples"):
        SamplesConfig(**settings)


@given(count=st.integers(0, 500), most=st.integers(1, 20))
def test_samples_are_spread_over_the_batch(count: int, most: int) -> None:
    chosen = spread(count, most)
    assert len(set(chosen)) == len(chosen) == min(count, most)
    assert chosen == sorted(chosen)
    assert all(0 <= i < count for i in chosen)
    gaps = np.diff(chosen)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
