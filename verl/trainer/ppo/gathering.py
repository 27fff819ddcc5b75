"""What a step learns from: trajectories of the next rows, scored, with more in place of those that
teach nothing.

Guarantees: without ``algorithm.filter_groups`` one rollout a step; with it at most
``max_num_gen_batches``, and the step gets at most as many prompts as it would without. Rows are
taken in the data's order and none comes back. Every trajectory that the agent does not exclude is
scored exactly once. A greedy trajectory that an algorithm compares with is scored without moving
the reward's state, and is not learned from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from verl.algorithms import find_algorithm
from verl.config.ppo import PPOConfig
from verl.config.sampling import Sampling
from verl.config.validation import ConfigError
from verl.interfaces import (
    RewardFunction,
    RewardOutput,
    RolloutOptions,
    RolloutRequest,
    RolloutSource,
)
from verl.protocol import DataProto
from verl.trainer.ppo.row_stream import RowStream
from verl.trainer.ppo.scored_rollout import ScoredRollout, join_rewards
from verl.trainer.ppo.selection import select_for_update
from verl.trainer.ppo.validation import label
from verl.trajectory import Trajectory, collate
from verl.utils.dataset import PromptDataset


class TrainingStoppedError(Exception):
    """The task says that this step's rollout, and any further one, is of no use."""


@dataclass
class Gathered:
    """What a step rolled out.

    Attributes:
        rollout: to learn from; None if nothing is left.
        trajectories: all that were sampled, also what is left out; without the greedy ones.
        rewards: of all that were scored.
        rolled_out: how many trajectories, the greedy ones among them.
        counts: what happened to them, as metrics.
        seconds: of rollouts ("gen") and of scoring ("reward").
    """

    rollout: ScoredRollout | None = None
    trajectories: list[Trajectory] = field(default_factory=list)
    rewards: list[RewardOutput] = field(default_factory=list)
    rolled_out: int = 0
    counts: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"gen": 0.0, "reward": 0.0})

    @property
    def reward(self) -> RewardOutput:
        """Of all trajectories that were scored, those of dropped groups among them."""
        return join_rewards(self.rewards)

    @property
    def nothing_left(self) -> str:
        """Why there is nothing to learn from."""
        excluded = int(self.counts["rollout/excluded"])
        text = f"{excluded} trajectories are excluded and none is left to learn from"
        if dropped := int(self.counts.get("rollout/groups_dropped", 0)):
            text += f"; the samples of {dropped} prompts all scored the same"
        return text

    def count(self, numbers: Mapping[str, float]) -> None:
        """Adds to :attr:`counts`."""
        for name, number in numbers.items():
            self.counts[name] = self.counts.get(name, 0.0) + number

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the block's seconds."""
        start = time.monotonic()
        yield
        self.seconds[name] += time.monotonic() - start


class Gatherer:
    """Rolls a step's prompts out.

    Args:
        config: of the run.
        source: makes trajectories.
        reward_function: scores them.
        dataset: of training.
        rows: of the dataset, in order.
        stop_reason: asked after each rollout, see :class:`verl.task.Surroundings`.
        needs_peers: a trajectory without another of its prompt teaches nothing.
        pad_token_id: for batches.
    """

    def __init__(
        self,
        config: PPOConfig,
        source: RolloutSource,
        reward_function: RewardFunction,
        dataset: PromptDataset,
        rows: RowStream,
        stop_reason: Callable[[], str | None],
        needs_peers: bool,
        pad_token_id: int,
    ) -> None:
        self._sampling = config.actor_rollout_ref.rollout
        self._seed = config.trainer.seed
        self._prompts = config.data.train_batch_size
        self._filter = config.algorithm.filter_groups
        self._needs_greedy = find_algorithm(config.algorithm.adv_estimator).needs_greedy_baseline
        self._source = source
        self._reward_function = reward_function
        self._dataset = dataset
        self._rows = rows
        self._stop_reason = stop_reason
        self._needs_peers = needs_peers
        self._pad_token_id = pad_token_id

    def gather(self, step: int) -> Gathered:
        """The step's trajectories; the engines are awake.

        Raises:
            TrainingStoppedError: as soon as the task says so.
            ConfigError: if the reward function does not report ``filter_groups.metric``.
        """
        gathered = Gathered()
        kept: list[ScoredRollout] = []
        asked = 0
        for _ in range(self._filter.max_num_gen_batches if self._filter.enable else 1):
            count = self._still_to_ask(asked, sum(len(part.groups) for part in kept))
            if not count:
                break
            scored = self._sample(gathered, step, asked, count)
            asked += count
            if scored is not None:
                kept += self._keep(gathered, scored)
        if kept:
            rollout = self._at_most(gathered, self._join(kept))
            gathered.rollout = self._with_greedy_scores(gathered, rollout)
        return gathered

    def _still_to_ask(self, asked: int, kept: int) -> int:
        """Prompts of the next round: those missing, and more if some of the last were dropped."""
        missing = max(0, self._prompts - kept)
        if not asked:
            return missing
        return min(self._prompts, -(-missing * asked // max(1, kept)))

    def _sample(
        self, gathered: Gathered, step: int, first: int, count: int
    ) -> ScoredRollout | None:
        """``n_agent`` trajectories of each of the next rows, side by side; None if all are left
        out. The step's prompts are numbered from ``first``."""
        requests = [
            self._dataset.request(row, uid=f"step{step}-{first + i}", sample_index=k)
            for i, row in enumerate(self._rows.take(count))
            for k in range(self._sampling.n_agent)
        ]
        trajectories = self._roll_out(gathered, requests, self._sampling)
        selection = select_for_update(trajectories, self._needs_peers)
        gathered.trajectories += trajectories
        gathered.count(selection.metrics())
        if not selection.kept:
            return None
        requests = [requests[i] for i in selection.kept]
        scored = self._score(
            gathered, requests, [trajectories[i] for i in selection.kept], validate=False
        )
        gathered.rewards.append(scored.reward)
        return scored

    def _roll_out(
        self, gathered: Gathered, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> list[Trajectory]:
        with gathered.timed("gen"):
            options = RolloutOptions.of(sampling, self._seed)
            trajectories = self._source.rollout(requests, options)
        gathered.rolled_out += len(requests)
        if reason := self._stop_reason():
            raise TrainingStoppedError(reason)
        return trajectories

    def _score(
        self,
        gathered: Gathered,
        requests: list[RolloutRequest],
        trajectories: list[Trajectory],
        validate: bool,
    ) -> ScoredRollout:
        batch = self._batch(requests, trajectories)
        with gathered.timed("reward"):
            reward = self._reward_function(batch, validate=validate)
        return ScoredRollout(requests, trajectories, batch, reward)

    def _batch(
        self, requests: Sequence[RolloutRequest], trajectories: Sequence[Trajectory]
    ) -> DataProto:
        batch = collate(trajectories, self._pad_token_id)
        return label(batch, [dict(request.row) for request in requests])

    def _keep(self, gathered: Gathered, scored: ScoredRollout) -> list[ScoredRollout]:
        """The groups that differ in the filter's metric, in one; none if none does."""
        if not self._filter.enable:
            return [scored]
        name, reward = self._filter.metric, scored.reward
        if name != "score" and name not in reward.metrics:
            raise ConfigError(
                f"algorithm.filter_groups.metric={name!r} is not reported by the reward; choose "
                f"one of: {', '.join(['score', *sorted(reward.metrics)])}"
            )
        values = reward.scores if name == "score" else reward.metrics[name]
        groups = scored.groups
        telling = [rows for rows in groups if len(set(values[rows].tolist())) > 1]
        dropped = len(groups) - len(telling)
        gathered.count({"rollout/rounds": 1.0, "rollout/groups_dropped": float(dropped)})
        return [scored.only(telling)] if telling else []

    def _at_most(self, gathered: Gathered, rollout: ScoredRollout) -> ScoredRollout:
        """No more prompts than a step takes: those that came first."""
        groups = rollout.groups
        if self._filter.enable:
            surplus = max(0, len(groups) - self._prompts)
            gathered.count({"rollout/groups_surplus": float(surplus)})
        return rollout.only(groups[: self._prompts])

    def _with_greedy_scores(
        self, gathered: Gathered, rollout: ScoredRollout
    ) -> ScoredRollout | None:
        """Adds ``greedy_scores`` (B,) float64 where the algorithm asks for them; leaves out the
        prompts whose greedy trajectory is excluded, and is None if none is left."""
        if not self._needs_greedy:
            return rollout
        groups = rollout.groups
        requests = [
            replace(rollout.requests[rows[0]], sample_index=self._sampling.n_agent)
            for rows in groups
        ]
        trajectories = self._roll_out(gathered, requests, Sampling(temperature=0.0))
        sound = [i for i, trajectory in enumerate(trajectories) if not trajectory.excluded]
        kept = rollout.only(groups[i] for i in sound)
        lost = len(rollout.trajectories) - len(kept.trajectories)
        gathered.count({"rollout/without_baseline": float(lost)})
        if not sound:
            return None
        greedy = self._score(
            gathered, [requests[i] for i in sound], [trajectories[i] for i in sound], validate=True
        )
        gathered.count({"rollout/greedy_score": float(greedy.reward.scores.mean())})
        scores = dict(zip((requests[i].uid for i in sound), greedy.reward.scores, strict=True))
        column = torch.tensor([scores[t.uid] for t in kept.trajectories], dtype=torch.float64)
        kept.batch.union(DataProto.from_dict({"greedy_scores": column}))
        return kept

    def _join(self, parts: Sequence[ScoredRollout]) -> ScoredRollout:
        if len(parts) == 1:
            return parts[0]
        requests = [request for part in parts for request in part.requests]
        trajectories = [trajectory for part in parts for trajectory in part.trajectories]
        batch = self._batch(requests, trajectories)
        reward = join_rewards([part.reward for part in parts])
        return ScoredRollout(requests, trajectories, batch, reward)
