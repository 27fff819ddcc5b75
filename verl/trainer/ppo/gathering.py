"""What a step learns from: trajectories of the next prompts, scored, with more in place of those
that teach nothing.

Guarantees: without ``algorithm.filter_groups`` one rollout a step; with it at most
``max_num_gen_batches``, and the step gets at most as many prompts as it would without. Every
trajectory that the agent does not exclude is scored exactly once; an excluded one reaches neither
reward, baseline, whitening, loss nor the metrics made from them, and is counted. A greedy
trajectory that an algorithm compares with is scored without moving the reward's state, and is not
learned from.
"""

from __future__ import annotations

from collections import Counter
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
from verl.trainer.ppo.metrics import timed
from verl.trainer.ppo.prompts import NextPrompts
from verl.trainer.ppo.scored_rollout import ScoredRollout, join_rewards, labelled_batch
from verl.trainer.roles import Roles
from verl.trajectory import Trajectory


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
    seconds: dict[str, float] = field(default_factory=dict)

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


class Gatherer:
    """Gets a step's prompts.

    Args:
        prompts: rolls them out.
        source: makes greedy trajectories, where an algorithm compares with them.
        stop_reason: asked after each rollout, see :class:`verl.task.Surroundings`.
    """

    def __init__(
        self,
        config: PPOConfig,
        prompts: NextPrompts,
        source: RolloutSource,
        reward_function: RewardFunction,
        stop_reason: Callable[[], str | None],
        pad_token_id: int,
    ) -> None:
        self._n_agent = config.actor_rollout_ref.rollout.n_agent
        self._prompts_per_step = config.data.train_batch_size
        self._filter = config.algorithm.filter_groups
        self._needs_peers = Roles.of(config).groups
        self._needs_greedy = find_algorithm(config.algorithm.adv_estimator).needs_greedy_baseline
        self._greedy = RolloutOptions.of(Sampling(temperature=0.0), config.trainer.seed)
        self._prompts = prompts
        self._source = source
        self._reward_function = reward_function
        self._stop_reason = stop_reason
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
            scored = self._sample(gathered, step, count)
            asked += count
            if scored is not None:
                kept += self._keep(gathered, scored)
        if kept:
            rollout = self._at_most(gathered, self._join(kept))
            gathered.rollout = self._with_greedy_scores(gathered, rollout)
        gathered.count(self._prompts.metrics())
        return gathered

    def _still_to_ask(self, asked: int, kept: int) -> int:
        """Prompts of the next round: those missing, and more if some of the last were dropped."""
        missing = max(0, self._prompts_per_step - kept)
        if not asked:
            return missing
        return min(self._prompts_per_step, -(-missing * asked // max(1, kept)))

    def _sample(self, gathered: Gathered, step: int, count: int) -> ScoredRollout | None:
        """The trajectories of so many prompts; None if all are left out."""
        with self._rolling_out(gathered, count * self._n_agent):
            requests, trajectories = self._prompts.sample(step, count)
        gathered.trajectories += trajectories
        rows, left_out = select_for_update(trajectories, self._needs_peers)
        gathered.count(left_out)
        if not rows:
            return None
        scored = self._score(gathered, requests, trajectories, rows, validate=False)
        gathered.rewards.append(scored.reward)
        return scored

    @contextmanager
    def _rolling_out(self, gathered: Gathered, trajectories: int) -> Iterator[None]:
        with timed(gathered.seconds, "gen"):
            yield
        gathered.rolled_out += trajectories
        if reason := self._stop_reason():
            raise TrainingStoppedError(reason)

    def _score(
        self,
        gathered: Gathered,
        requests: Sequence[RolloutRequest],
        trajectories: Sequence[Trajectory],
        rows: Sequence[int],
        validate: bool,
    ) -> ScoredRollout:
        """The given rows alone."""
        requests, trajectories = [requests[i] for i in rows], [trajectories[i] for i in rows]
        batch = labelled_batch(requests, trajectories, self._pad_token_id)
        with timed(gathered.seconds, "reward"):
            reward = self._reward_function(batch, validate=validate)
        return ScoredRollout(requests, trajectories, batch, reward)

    def _keep(self, gathered: Gathered, scored: ScoredRollout) -> list[ScoredRollout]:
        """The groups that differ in the filter's metric, in one; none if none does."""
        if not self._filter.enable:
            return [scored]
        metrics = scored.reward.metrics | {"score": scored.reward.scores}
        name, groups = self._filter.metric, scored.groups
        if name not in metrics:
            raise ConfigError(
                f"algorithm.filter_groups.metric={name!r} is not reported by the reward; choose "
                f"one of: {', '.join(['score', *sorted(scored.reward.metrics)])}"
            )
        telling = [rows for rows in groups if len(set(metrics[name][rows].tolist())) > 1]
        dropped = len(groups) - len(telling)
        gathered.count({"rollout/rounds": 1.0, "rollout/groups_dropped": float(dropped)})
        return [scored.only(telling)] if telling else []

    def _at_most(self, gathered: Gathered, rollout: ScoredRollout) -> ScoredRollout:
        """No more prompts than a step takes: those that came first."""
        groups = rollout.groups
        if self._filter.enable:
            surplus = max(0, len(groups) - self._prompts_per_step)
            gathered.count({"rollout/groups_surplus": float(surplus)})
        return rollout.only(groups[: self._prompts_per_step])

    def _with_greedy_scores(
        self, gathered: Gathered, rollout: ScoredRollout
    ) -> ScoredRollout | None:
        """Adds ``greedy_scores`` (B,) float64 where the algorithm asks for them; leaves out the
        prompts whose greedy trajectory is excluded, and is None if none is left."""
        if not self._needs_greedy:
            return rollout
        groups = rollout.groups
        requests = [
            replace(rollout.requests[rows[0]], sample_index=self._n_agent) for rows in groups
        ]
        with self._rolling_out(gathered, len(requests)):
            trajectories = self._source.rollout(requests, self._greedy)
        sound, _ = select_for_update(trajectories, needs_peers=False)
        kept = rollout.only(groups[i] for i in sound)
        lost = len(rollout.trajectories) - len(kept.trajectories)
        gathered.count({"rollout/without_baseline": float(lost)})
        if not sound:
            return None
        greedy = self._score(gathered, requests, trajectories, sound, validate=True)
        gathered.count({"rollout/greedy_score": float(greedy.reward.scores.mean())})
        scores = dict(zip((t.uid for t in greedy.trajectories), greedy.reward.scores, strict=True))
        column = torch.tensor([scores[t.uid] for t in kept.trajectories], dtype=torch.float64)
        kept.batch.union(DataProto.from_dict({"greedy_scores": column}))
        return kept

    def _join(self, parts: Sequence[ScoredRollout]) -> ScoredRollout:
        if len(parts) == 1:
            return parts[0]
        requests = [request for part in parts for request in part.requests]
        trajectories = [trajectory for part in parts for trajectory in part.trajectories]
        batch = labelled_batch(requests, trajectories, self._pad_token_id)
        reward = join_rewards([part.reward for part in parts])
        return ScoredRollout(requests, trajectories, batch, reward)


def select_for_update(
    trajectories: Sequence[Trajectory], needs_peers: bool
) -> tuple[list[int], dict[str, float]]:
    """Rows that the update may learn from, ascending, and how many take no part:
    ``rollout/excluded`` by the agent, ``rollout/alone`` since ``needs_peers`` and none of their
    prompt is left that their advantage could be relative to."""
    sound = [i for i, trajectory in enumerate(trajectories) if not trajectory.excluded]
    group_sizes = Counter(trajectories[i].uid for i in sound)
    kept = [i for i in sound if not needs_peers or group_sizes[trajectories[i].uid] > 1]
    excluded, alone = len(trajectories) - len(sound), len(sound) - len(kept)
    return kept, {"rollout/excluded": float(excluded), "rollout/alone": float(alone)}
