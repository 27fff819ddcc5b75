"""Step rewards lie on the last token of their generation, and are part of the score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from verl.config.algorithm import AlgorithmConfig
from verl.interfaces import RewardOutput
from verl.protocol import DataProto
from verl.trainer.ppo.advantage import add_advantages, add_rewards, place_steps
from verl.trainer.ppo.scored_rollout import ScoredRollout, join_rewards
from verl.trajectory import Segment, SegmentKind, Trajectory, collate


def trajectory(*lengths: int, uid: str = "a") -> Trajectory:
    """Actions of so many tokens; a negative length is an observation's."""
    segments = [Segment(SegmentKind.PROMPT, (1, 2))]
    for length in lengths:
        if length < 0:
            segments.append(Segment(SegmentKind.OBSERVATION, (9,) * -length))
        else:
            segments.append(Segment(SegmentKind.ACTION, (5,) * length, (-1.0,) * length))
    return Trajectory(uid, segments)


# Two turns with a reply between; two in a row; a turn without a token; another prompt's.
GIVEN = [trajectory(2, -2, 1), trajectory(1, 2), trajectory(2, 0), trajectory(3, uid="b")]
STEPS = [(0.5, 0.25), (0.5, 0.25), (0.5, 0.25), ()]
PLACED = [[0, 0.5, 0, 0, 0.25], [0.5, 0, 0.25, 0, 0], [0, 0.75, 0, 0, 0], [0] * 5]


def scored(scores: list[float]) -> DataProto:
    batch = collate(GIVEN, pad_token_id=0)
    add_rewards(batch, GIVEN, RewardOutput(np.array(scores), {}, STEPS))
    assert batch.batch is not None
    batch.batch["token_level_rewards"] = batch.batch["token_level_scores"]
    return batch


def test_a_step_reward_lies_on_its_turns_last_token() -> None:
    assert place_steps(GIVEN, STEPS, 5).tolist() == PLACED
    assert GIVEN[0].turn_ends == [1, 4]
    assert trajectory(0, -1, 2).turn_ends == [-1, 2]
    with pytest.raises(ValueError, match="3 step rewards for a trajectory of 2 generations"):
        place_steps(GIVEN, [(1.0, 2.0, 3.0), *STEPS[1:]], 5)


def test_the_last_sampled_token_gets_the_rest_of_the_score() -> None:
    batch = scored([1.75, 0.75, -1.0, 2.0]).batch
    assert batch is not None
    expected = torch.tensor(PLACED)
    expected[0, 4], expected[2, 1], expected[3, 2] = 1.25, -1.0, 2.0
    assert torch.equal(batch["token_level_scores"], expected)


def test_gae_uses_step_rewards_where_they_lie_and_groups_their_sum() -> None:
    batch = scored([1.75, 0.75, -1.0, 2.0])
    assert batch.batch is not None
    batch.batch["values"] = torch.zeros(4, 5)
    add_advantages(batch, AlgorithmConfig(adv_estimator="gae", gamma=1.0, lam=1.0))
    assert batch.batch["returns"][0].tolist() == [1.75, 1.75, 0, 0, 1.25]
    assert batch.batch["returns"][1].tolist() == [0.75, 0.25, 0.25, 0, 0]
    add_advantages(batch, AlgorithmConfig(adv_estimator="rloo"))
    rest = (0.75 - 1.0) / 2
    mask = batch.batch["response_mask"][0]
    assert batch.batch["advantages"][0] == pytest.approx((1.75 - rest) * mask)


def test_step_rewards_stay_with_their_trajectories() -> None:
    reward = RewardOutput(np.arange(4.0), {"metric": np.arange(4.0)}, STEPS)
    rollout = ScoredRollout([None] * 4, GIVEN, collate(GIVEN, 0), reward)  # type: ignore[list-item]
    assert rollout.only([[3], [1]]).reward.steps == [STEPS[1], STEPS[3]]
    plain = RewardOutput(np.zeros(1), {"metric": np.zeros(1)})
    assert join_rewards([plain, reward]).steps == [(), *STEPS]
    assert join_rewards([plain, plain]).steps is None
