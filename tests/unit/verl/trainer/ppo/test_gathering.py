"""What a step learns from: groups without variance are replaced, greedy ones are baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from verl.config.algorithm import AlgorithmConfig, FilterGroupsConfig
from verl.config.model import ActorConfig, CriticConfig
from verl.config.ppo import ActorRolloutRefConfig, DataConfig, PPOConfig, TrainerConfig
from verl.config.rollout import RolloutConfig
from verl.config.validation import ConfigError
from verl.interfaces import RewardOutput, RolloutOptions, RolloutRequest
from verl.protocol import DataProto
from verl.trainer.ppo.advantage import add_advantages, add_token_level_scores
from verl.trainer.ppo.gathering import Gatherer, TrainingStoppedError
from verl.trainer.ppo.prompts import NextPrompts, PromptRequests, RowStream
from verl.trajectory import AgentRecord, Segment, SegmentKind, Trajectory
from verl.utils.dataset import PromptDataset

ROWS = 40
PROMPTS = 4


@dataclass(frozen=True)
class Told(AgentRecord):
    row: int = 0
    sample: int = 0
    greedy: bool = False


@dataclass
class Agent:
    """One token a trajectory; ``excluded`` says which ones infrastructure broke."""

    excluded: Callable[[Told], bool] = lambda _: False
    calls: list[list[int]] = field(default_factory=list)
    uids: list[tuple[str, int]] = field(default_factory=list)

    def start(
        self, requests: Sequence[RolloutRequest], options: RolloutOptions, on_finished: Any = None
    ) -> Future[list[Trajectory]]:
        future: Future[list[Trajectory]] = Future()
        future.set_result(self.rollout(requests, options, on_finished))
        return future

    def rollout(
        self, requests: Sequence[RolloutRequest], options: RolloutOptions, on_finished: Any = None
    ) -> list[Trajectory]:
        del on_finished
        self.calls.append([int(request.row["number"]) for request in requests])
        made = []
        for request in requests:
            told = Told(int(request.row["number"]), request.sample_index, options.temperature == 0)
            self.uids.append((request.uid, request.sample_index))
            segments = [
                Segment(SegmentKind.PROMPT, (1,)),
                Segment(
                    SegmentKind.ACTION, (2,) * (1 + told.row % 3), (-1.0,) * (1 + told.row % 3)
                ),
            ]
            made.append(
                Trajectory(request.uid, segments, record=told, excluded=self.excluded(told))
            )
        return made


@dataclass
class Reward:
    """The first sample of a row in ``telling`` scores 1 more than the others."""

    telling: Callable[[int], bool] = lambda _: True
    scored: Counter = field(default_factory=Counter)

    def __call__(self, batch: DataProto, validate: bool) -> RewardOutput:
        records: list[Told] = batch.non_tensor_batch["record"].tolist()
        assert [t.greedy for t in records] == [validate] * len(records)
        self.scored[validate] += len(records)
        first = np.array([float(t.sample == 0 and self.telling(t.row)) for t in records])
        rows = np.array([float(t.row) for t in records])
        return RewardOutput(first + (100 * rows if validate else 0), {"first": first, "row": rows})

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        del state


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PromptDataset:
    path: Path = tmp_path_factory.mktemp("rows") / "train.parquet"
    rows = [
        {
            "number": i,
            "data_source": "made",
            "prompt": [{"role": "user", "content": str(i)}],
            "reward_model": {"ground_truth": {"target": [str(i)]}},
        }
        for i in range(ROWS)
    ]
    pd.DataFrame(rows).to_parquet(path)
    return PromptDataset([str(path)], "prompt")


def gatherer(
    dataset: PromptDataset,
    agent: Agent,
    reward: Reward,
    algorithm: AlgorithmConfig,
    stop_reason: Callable[[], str | None] = lambda: None,
) -> tuple[Gatherer, RowStream]:
    config = PPOConfig(
        data=DataConfig(
            train_files=["t"],
            val_files=["v"],
            train_batch_size=PROMPTS,
            shuffle_train_dataloader=False,
        ),
        algorithm=algorithm,
        actor_rollout_ref=ActorRolloutRefConfig(
            actor=ActorConfig(ppo_mini_batch_size=8), rollout=RolloutConfig(n_agent=2)
        ),
        critic=CriticConfig(ppo_mini_batch_size=8),
        trainer=TrainerConfig(device="cpu"),
    )
    requests = PromptRequests(config, dataset)
    prompts = NextPrompts(requests, agent)
    return Gatherer(config, prompts, agent, reward, stop_reason, 0), requests.rows


def dapo(metric: str = "score", bound: int = 4) -> AlgorithmConfig:
    return AlgorithmConfig("grpo", filter_groups=FilterGroupsConfig(True, metric, bound))


def test_without_a_filter_a_step_is_one_rollout(dataset: PromptDataset) -> None:
    agent, reward = Agent(), Reward(telling=lambda row: row == 1)
    gather, rows = gatherer(dataset, agent, reward, AlgorithmConfig("grpo"))
    gathered = gather.gather(step=1)
    assert agent.calls == [[0, 0, 1, 1, 2, 2, 3, 3]]
    assert gathered.rollout is not None
    assert gathered.rollout.reward.scores.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert gathered.counts == {"rollout/excluded": 0.0, "rollout/alone": 0.0}
    assert (gathered.rolled_out, rows.taken) == (8, 4)
    gather.gather(step=2)
    assert agent.calls[1] == [4, 4, 5, 5, 6, 6, 7, 7]


def test_groups_without_variance_are_replaced_from_the_rows_that_follow(
    dataset: PromptDataset,
) -> None:
    """Every other row tells nothing: of four, two are kept, then two more of the next four."""
    agent, reward = Agent(), Reward(telling=lambda row: row % 2 == 0)
    gather, rows = gatherer(dataset, agent, reward, dapo())
    gathered = gather.gather(step=1)
    assert [sorted(set(call)) for call in agent.calls] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    rollout = gathered.rollout
    assert rollout is not None
    assert [t.record.row for t in rollout.trajectories] == [0, 0, 2, 2, 4, 4, 6, 6]
    assert [r.row["number"] for r in rollout.requests] == [0, 0, 2, 2, 4, 4, 6, 6]
    assert rollout.batch.non_tensor_batch["ground_truth"][4] == ["4"]
    assert rollout.reward.metrics["row"].tolist() == [0, 0, 2, 2, 4, 4, 6, 6]
    assert rollout.reward.scores.tolist() == [1, 0] * 4
    assert len(rollout.batch) == len(gathered.rollout.reward.scores) == 8
    assert gathered.counts == {
        "rollout/excluded": 0.0,
        "rollout/alone": 0.0,
        "rollout/rounds": 2.0,
        "rollout/groups_dropped": 4.0,
        "rollout/groups_surplus": 0.0,
    }
    assert (gathered.rolled_out, rows.taken, len(gathered.trajectories)) == (16, 8, 16)
    # The reward that is reported is that of all that was sampled.
    assert gathered.reward.scores.mean() == pytest.approx(0.25)
    assert reward.scored == {False: 16}
    assert len(set(agent.uids)) == 16
    gather.gather(step=2)
    assert agent.calls[2][0] == 8


def test_the_bound_ends_the_search_and_the_step_goes_on_with_what_it_has(
    dataset: PromptDataset,
) -> None:
    agent = Agent()
    gather, rows = gatherer(dataset, agent, Reward(lambda row: row == 2), dapo(bound=3))
    gathered = gather.gather(step=1)
    assert gathered.rollout is not None
    assert [t.record.row for t in gathered.rollout.trajectories] == [2, 2]
    assert (len(agent.calls), rows.taken) == (3, 12)
    assert gathered.counts["rollout/groups_dropped"] == 11


def test_a_step_without_any_variance_has_nothing_and_says_why(dataset: PromptDataset) -> None:
    gather, _ = gatherer(dataset, Agent(), Reward(lambda _: False), dapo(bound=2))
    gathered = gather.gather(step=1)
    assert gathered.rollout is None
    assert gathered.counts["rollout/rounds"] == 2
    assert gathered.nothing_left.endswith("the samples of 8 prompts all scored the same")


def test_more_than_a_step_takes_is_cut_and_counted(dataset: PromptDataset) -> None:
    """One of the first four tells, so four more are asked for each that is missing, four at most;
    all of those do, and one is too many."""
    gather, _ = gatherer(dataset, Agent(), Reward(lambda row: row in (0, 4, 5, 6, 7)), dapo())
    gathered = gather.gather(step=1)
    assert gathered.rollout is not None
    assert [t.record.row for t in gathered.rollout.trajectories[::2]] == [0, 4, 5, 6]
    assert gathered.counts["rollout/groups_surplus"] == 1


def test_the_filters_metric_may_be_any_of_the_rewards(dataset: PromptDataset) -> None:
    gather, _ = gatherer(dataset, Agent(), Reward(lambda row: row == 1), dapo("first"))
    gathered = gather.gather(step=1)
    assert gathered.rollout is not None
    assert {t.record.row for t in gathered.rollout.trajectories} == {1}
    gather, _ = gatherer(dataset, Agent(), Reward(), dapo("accuracy"))
    with pytest.raises(ConfigError, match=r"metric='accuracy'.*choose one of: score, first, row"):
        gather.gather(step=1)


def test_a_greedy_trajectory_of_each_prompt_is_the_baseline_and_is_not_learned_from(
    dataset: PromptDataset,
) -> None:
    agent, reward = Agent(), Reward(telling=lambda row: row == 3)
    algorithm = AlgorithmConfig("remax")
    gather, _ = gatherer(dataset, agent, reward, algorithm)
    gathered = gather.gather(step=1)
    rollout = gathered.rollout
    assert rollout is not None
    assert agent.calls == [[0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 2, 3]]
    assert not any(t.record.greedy for t in rollout.trajectories)
    assert len(rollout.trajectories) == 8
    assert gathered.rolled_out == 12
    assert reward.scored == {False: 8, True: 4}
    assert gathered.counts["rollout/greedy_score"] == pytest.approx(150.0)
    batch = rollout.batch
    assert batch.batch is not None
    assert batch.batch["greedy_scores"].tolist() == [0, 0, 100, 100, 200, 200, 300, 300]
    add_token_level_scores(batch, batch.batch["greedy_scores"] + 2)
    batch.batch["token_level_rewards"] = batch.batch["token_level_scores"]
    add_advantages(batch, algorithm)
    advantages, mask = batch.batch["advantages"], batch.batch["response_mask"]
    assert (advantages == 2.0 * mask).all()


def test_a_prompt_whose_greedy_trajectory_broke_is_left_out(dataset: PromptDataset) -> None:
    agent = Agent(excluded=lambda told: told.greedy and told.row == 1)
    gather, _ = gatherer(dataset, agent, Reward(), AlgorithmConfig("remax"))
    gathered = gather.gather(step=1)
    assert gathered.rollout is not None
    assert {t.record.row for t in gathered.rollout.trajectories} == {0, 2, 3}
    assert gathered.counts["rollout/without_baseline"] == 2
    broken = Agent(excluded=lambda told: told.greedy)
    gather, _ = gatherer(dataset, broken, Reward(), AlgorithmConfig("remax"))
    assert gather.gather(step=1).rollout is None


def test_excluded_trajectories_are_never_scored(dataset: PromptDataset) -> None:
    agent, reward = Agent(excluded=lambda told: told.row == 0 and told.sample == 1), Reward()
    gather, _ = gatherer(dataset, agent, reward, dapo())
    gathered = gather.gather(step=1)
    assert gathered.rollout is not None
    assert gathered.counts["rollout/excluded"] == gathered.counts["rollout/alone"] == 1
    assert {t.record.row for t in gathered.rollout.trajectories} == {1, 2, 3, 4}


def test_the_task_may_stop_a_step_in_the_midst_of_its_rounds(dataset: PromptDataset) -> None:
    agent, reasons = Agent(), iter([None, "the budget is spent"])
    gather, _ = gatherer(dataset, agent, Reward(lambda _: False), dapo(), lambda: next(reasons))
    with pytest.raises(TrainingStoppedError, match="the budget is spent"):
        gather.gather(step=1)
    assert len(agent.calls) == 2


def test_rows_come_in_the_order_of_the_epochs_however_many_are_taken() -> None:
    def stream() -> RowStream:
        return RowStream(10, 4, seed=3, shuffle=True)

    whole = stream().take(24)
    assert len(set(whole[:8])) == 8
    pieces = stream()
    assert pieces.take(3) + pieces.take(1) + pieces.take(9) == whole[:13]
    again = stream()
    again.load_state_dict(pieces.state_dict())
    assert again.take(11) == whole[13:], "into the third epoch"
    assert again.state_dict() == {"taken": 24, "returned": []}


def test_rows_that_came_back_are_the_next() -> None:
    rows = RowStream(10, 4, seed=3, shuffle=True)
    first = rows.take(6)
    rows.load_state_dict({"taken": 6, "returned": first[2:5]})
    assert rows.take(2) == first[2:4]
    assert rows.take(3) == [first[4], *RowStream(10, 4, seed=3, shuffle=True).take(8)[6:]]
    assert rows.state_dict() == {"taken": 8, "returned": []}
