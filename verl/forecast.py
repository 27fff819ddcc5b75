"""What a run is going to do: how long it is, what its trajectories do, and what adds up over it.

Guarantees: nothing here asks a service or reads a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from verl.algorithms import find_algorithm
from verl.config.ppo import PPOConfig

# The expected largest of n draws lies near the quantile 1 - exp(-gamma) / n (Gumbel).
_GUMBEL = math.exp(-0.5772156649)


@dataclass(frozen=True)
class PlannedRun:
    """What a run does; None is not known, for want of the data files.

    Attributes:
        steps: training steps.
        training: trajectories of all steps, greedy ones that an algorithm compares with among
            them; what dynamic sampling rolls out besides is not known.
        validations: rounds of validation.
        validation: trajectories of all rounds.
    """

    steps: int | None
    training: int | None
    validations: int | None
    validation: int | None

    @classmethod
    def of(
        cls, config: PPOConfig, train_rows: int | None, validation_rows: int | None
    ) -> PlannedRun:
        """Of a run on files with so many rows; None where they cannot be read."""
        trainer, batch = config.trainer, config.data.train_batch_size
        steps = 0 if trainer.val_only else trainer.total_training_steps
        if steps is None and train_rows is not None:
            steps = trainer.total_epochs * (train_rows // batch)
        if steps is None:
            return cls(None, None, None, None)
        rounds = _validations(config, steps)
        greedy = find_algorithm(config.algorithm.adv_estimator).needs_greedy_baseline
        samples = config.actor_rollout_ref.rollout.n_agent + greedy
        return cls(
            steps=steps,
            training=steps * batch * samples,
            validations=rounds,
            validation=None if validation_rows is None else rounds * validation_rows,
        )


@dataclass(frozen=True)
class OutsideCalls:
    """Calls that trajectories make, and wait for.

    Attributes:
        each: calls of a trajectory, on average; one more generation follows the last.
        median_s, p99_s: of their log-normal latency; equal ones all take as long.
        at_once: that the services allow, all together; None for no limit.
        per_minute: that they allow to begin; None for no limit.
        limit_s: no call takes longer.
    """

    each: float
    median_s: float
    p99_s: float
    at_once: int | None = None
    per_minute: float | None = None
    limit_s: float = math.inf

    @property
    def sigma(self) -> float:
        """Of the latency's logarithm."""
        return math.log(self.p99_s / self.median_s) / NormalDist().inv_cdf(0.99)

    @property
    def mean_s(self) -> float:
        """Expected latency of a call, ``limit_s`` left out of account."""
        return self.median_s * math.exp(self.sigma**2 / 2)

    def slowest_s(self, trajectories: int) -> float:
        """Expected sum of the calls of the trajectory that waits longest.

        One very slow call among average ones, or, where latencies spread less, several rather slow
        ones, whose sum is taken for log-normal too (Fenton and Wilkinson): the longer of both.
        """
        most = math.ceil(self.each)
        calls = trajectories * self.each
        one = min(_largest(self.median_s, self.sigma, calls), self.limit_s)
        share = self.each - most + 1  # of the trajectories, that make the most calls
        variance = math.expm1(self.sigma**2) / most
        sigma = math.sqrt(math.log1p(variance))
        median = most * self.mean_s / math.sqrt(1 + variance)
        several = min(_largest(median, sigma, trajectories * share), most * self.limit_s)
        return max(one + max(0.0, self.each - 1) * self.mean_s, several)

    def quota_s(self, trajectories: int) -> float:
        """Seconds in which the services can serve all calls."""
        calls = trajectories * self.each
        at_once = calls * self.mean_s / self.at_once if self.at_once else 0.0
        return max(at_once, 60.0 * calls / self.per_minute if self.per_minute else 0.0)


@dataclass(frozen=True)
class Work:
    """A training step's.

    Attributes:
        trajectories: of all GPUs together.
        calls: that they make.
        prompt_tokens, turn_tokens, observation_tokens: of a prompt, of a generation, of a reply.
        scorings: passes without gradients (log-probs, reference, values).
        updates: passes with gradients over each trajectory, of models of the policy's size.
    """

    trajectories: int
    calls: OutsideCalls
    prompt_tokens: int
    turn_tokens: int
    observation_tokens: int
    scorings: int = 3
    updates: int = 2

    @property
    def turns(self) -> float:
        """Generations of a trajectory."""
        return self.calls.each + 1

    @property
    def tokens(self) -> float:
        """Of a whole trajectory."""
        read = self.prompt_tokens + self.calls.each * self.observation_tokens
        return read + self.turns * self.turn_tokens


@dataclass(frozen=True)
class RunningTotal:
    """A metric that grows with every trajectory, validation's as well.

    Attributes:
        metric: its name among the task's metrics; the estimate is logged as ``{metric}_at_end``.
        title: of the pair on the progress line.
        form: writes an amount.
        limit: that the run stops at; None for none.
    """

    metric: str
    title: str
    form: Callable[[float], str]
    limit: float | None = None


def _validations(config: PPOConfig, steps: int) -> int:
    """Before training, every ``test_freq`` steps, and at the end."""
    trainer = config.trainer
    if trainer.val_only:
        return 1
    regular = steps // trainer.test_freq if trainer.test_freq > 0 else 0
    at_the_end = trainer.test_freq <= 0 or steps % trainer.test_freq > 0
    return trainer.val_before_train + regular + at_the_end


def _largest(median: float, sigma: float, draws: float) -> float:
    """Expected largest of so many draws of a log-normal distribution."""
    share = max(0.5, 1 - _GUMBEL / max(1.0, draws))
    return median * math.exp(sigma * NormalDist().inv_cdf(share))
