"""Trajectories that infrastructure broke take no part in the update."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verl.config.ppo import AlgorithmConfig
from verl.interfaces import RolloutRequest
from verl.protocol import DataProto
from verl.trainer.ppo.advantage import add_advantages, add_token_level_scores
from verl.trainer.ppo.gathering import select_for_update
from verl.trainer.ppo.rollout_log import write_trajectories
from verl.trainer.ppo.update import mini_batches, without_truncated
from verl.trainer.ppo.validation import count_excluded
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus, collate


def trajectory(uid: str, excluded: bool = False) -> Trajectory:
    segments = [
        Segment(SegmentKind.PROMPT, (1, 2)),
        Segment(SegmentKind.ACTION, (3, 4), (-1.0, -1.0)),
    ]
    return Trajectory(uid, segments, excluded=excluded)


def test_excluded_ones_and_their_lonely_peers_are_left_out_and_counted() -> None:
    rollout = [
        trajectory("a"),
        trajectory("a", excluded=True),
        trajectory("b"),
        trajectory("b"),
        trajectory("c", excluded=True),
    ]
    kept, left_out = select_for_update(rollout, needs_peers=False)
    assert kept == [0, 2, 3]
    assert left_out == {"rollout/excluded": 2.0, "rollout/alone": 0.0}
    kept, left_out = select_for_update(rollout, needs_peers=True)
    assert kept == [2, 3]
    assert left_out == {"rollout/excluded": 2.0, "rollout/alone": 1.0}
    kept, _ = select_for_update([trajectory("a", excluded=True)], needs_peers=False)
    assert kept == []


@pytest.mark.parametrize("estimator", ["grpo", "gae"])
def test_an_excluded_reward_moves_nobodys_advantage(estimator: str) -> None:
    """The broken third of group a has a reward that would shift baseline and whitening."""

    def advantages(rollout: list[Trajectory], scores: list[float]) -> torch.Tensor:
        kept, _ = select_for_update(rollout, needs_peers=estimator == "grpo")
        batch = collate([rollout[i] for i in kept], pad_token_id=0)
        assert batch.batch is not None
        add_token_level_scores(batch, torch.tensor([scores[i] for i in kept]))
        batch.batch["token_level_rewards"] = batch.batch["token_level_scores"]
        batch.batch["values"] = torch.zeros(batch.batch["response_mask"].shape)
        add_advantages(batch, AlgorithmConfig(adv_estimator=estimator))
        found: torch.Tensor = batch.batch["advantages"]
        return found

    sound = [trajectory("a"), trajectory("a"), trajectory("b"), trajectory("b")]
    broken = [sound[0], trajectory("a", excluded=True), *sound[1:]]
    expected = advantages(sound, [1.0, 0.0, 0.5, 0.0])
    assert torch.equal(advantages(broken, [1.0, -9.0, 0.0, 0.5, 0.0]), expected)


def test_what_was_excluded_can_be_told_afterwards(tmp_path: Path) -> None:
    written = tmp_path / "validation" / "step_0.jsonl"
    trajectories = [trajectory("a"), trajectory("b", excluded=True)]
    row = {"data_source": "nq", "reward_model": {"ground_truth": {"target": "x"}}}
    asked = [{"role": "user", "content": "Who?"}]
    requests = [RolloutRequest(trajectory.uid, asked, row=row) for trajectory in trajectories]
    write_trajectories(written, requests, trajectories, {"em": np.array([1.0, 0.0])})
    records = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    assert [(r["uid"], r["excluded"], r["em"]) for r in records] == [
        ("a", False, 1),
        ("b", True, 0),
    ]
    assert count_excluded(trajectories) == {"val/excluded": 1.0}


def numbered(rows: int) -> DataProto:
    columns = {
        "row": torch.arange(rows),
        "attention_mask": torch.ones(rows, 5, dtype=torch.int64),
        "response_mask": torch.ones(rows, 3, dtype=torch.int64),
    }
    return DataProto.from_dict(columns)


@given(
    rows=st.integers(1, 40),
    size=st.integers(1, 16),
    ranks=st.integers(1, 4),
    epochs=st.integers(1, 2),
    shuffle=st.booleans(),
)
def test_mini_batches_hold_every_sample_once_an_epoch_and_split_over_the_ranks(
    rows: int, size: int, ranks: int, epochs: int, shuffle: bool
) -> None:
    rng = np.random.default_rng(0)
    parts = list(mini_batches(numbered(rows), size, epochs, shuffle, rng, ranks))
    assert len(parts) == epochs * -(-rows // size)
    counted: list[int] = []
    real_sizes = []
    for part in parts:
        assert len(part) % ranks == 0
        assert part.batch is not None
        real = part.batch["response_mask"].sum(dim=1) > 0
        real_sizes.append(int(real.sum()))
        counted += part.batch["row"][real].tolist()
    assert sorted(counted) == sorted(list(range(rows)) * epochs)
    assert max(real_sizes) <= size
    assert max(real_sizes) - min(real_sizes) <= 1


def test_filling_up_leaves_the_batch_itself_alone() -> None:
    batch = numbered(3)
    (part,) = mini_batches(batch, 4, 1, False, np.random.default_rng(0), ranks=2)
    assert part.batch is not None
    assert batch.batch is not None
    assert sorted(part.batch["response_mask"].sum(dim=1).tolist()) == [0, 3, 3, 3]
    assert batch.batch["response_mask"].all()


def test_truncated_ones_stay_out_of_the_update_and_in_the_baseline() -> None:
    """The truncated one of group a counts in its mean, and no gradient comes from it."""
    rollout = [trajectory("a"), trajectory("a"), trajectory("b"), trajectory("b")]
    rollout[1].status = TrajectoryStatus.TRUNCATED
    rollout[3].status = TrajectoryStatus.TURNS_EXHAUSTED
    batch = collate(rollout, pad_token_id=0)
    assert batch.batch is not None
    add_token_level_scores(batch, torch.tensor([3.0, 1.0, 0.0, 2.0]))
    batch.batch["token_level_rewards"] = batch.batch["token_level_scores"]
    add_advantages(batch, AlgorithmConfig(adv_estimator="dr_grpo"))
    left = without_truncated(batch)
    assert left.batch is not None
    assert left.batch["advantages"].tolist() == [[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]]
    assert left.non_tensor_batch["uid"].tolist() == ["a", "b", "b"]
