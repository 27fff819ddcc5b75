"""How long a training step takes: a model of its parts, for some GPUs, a model and calls to
services outside.

Every rate is measured on one GPU; what more GPUs do is computed from that. A step is synchronous:
the rollout, then what the trainer does with it. GPUs hold one engine each and share the
trajectories evenly.

Guarantees: pure arithmetic on its arguments; the parts add up to the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from verl.forecast import Work

# How GPUs are joined: those of a node, and bytes/s that each sends and gets in it and beyond.
_NODE_GPUS = 8
_INSIDE, _BETWEEN = 300e9, 40e9


class Bound(StrEnum):
    """What a rollout waits for."""

    ENGINE = "engine"
    CALLS = "slowest calls"
    QUOTA = "quota"
    DRIVER = "driver"


@dataclass(frozen=True)
class Rates:
    """What one GPU, and the driver's one core, were measured to do with a model of a size.

    Attributes:
        decode_step_s: of one step of the engine with few sequences.
        decode_sequence_s: that each sequence of the batch adds to it.
        scoring_tokens_per_s: without gradients; also of the engine's prefill.
        update_tokens_per_s: with gradients and the optimizer.
        publish_s: weights to the engines, with their sleep and wake.
        turn_s: the driver's, of a generation with its call.
        trajectory_s: the driver's, of collating, reward, advantages and sending to the workers.
        max_sequences: that an engine decodes at once.
    """

    decode_step_s: float
    decode_sequence_s: float
    scoring_tokens_per_s: float
    update_tokens_per_s: float
    publish_s: float
    turn_s: float
    trajectory_s: float
    max_sequences: int = 256

    def decode_s(self, sequences: float) -> float:
        """One step of the engine on so many sequences."""
        return self.decode_step_s + sequences * self.decode_sequence_s


@dataclass(frozen=True)
class Rollout:
    """A rollout.

    Attributes:
        first_s: until the first turn of all is written.
        waits: seconds from then on that each thing which a rollout may wait for would take if there
            were no other.
    """

    first_s: float
    waits: dict[Bound, float]

    @property
    def bound(self) -> Bound:
        """What it waits for longest."""
        return max(self.waits, key=lambda bound: self.waits[bound])

    @property
    def seconds(self) -> float:
        """The whole rollout. Waits overlap, but not wholly: what a queue holds up may itself be
        slow. Near the longest where one is much longer than the others, and 1.4 times as long where
        two are alike; the root of their squares' sum is close to what a simulation gives."""
        return self.first_s + math.hypot(*self.waits.values())


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step's parts."""

    rollout: Rollout
    scoring_s: float
    update_s: float
    publish_s: float
    driver_s: float

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        trained = self.scoring_s + self.update_s + self.publish_s
        return self.rollout.seconds + trained + self.driver_s


def rollout_time(work: Work, rates: Rates, gpus: int) -> Rollout:
    """What a rollout waits for.

    First all engines are full. Then a trajectory that waits for calls has its engine nearly to
    itself; the engines need the time of all turns to come, the driver that of all turns.
    """
    calls, own = work.calls, work.trajectories / gpus
    together = min(own, float(rates.max_sequences))
    turn_s = own / together * work.turn_tokens * rates.decode_s(together)
    observed = own * calls.each * work.observation_tokens
    first = own * work.prompt_tokens / rates.scoring_tokens_per_s + turn_s
    driver = work.trajectories * work.turns * rates.turn_s
    waits = {
        Bound.ENGINE: calls.each * turn_s + observed / rates.scoring_tokens_per_s,
        Bound.DRIVER: max(0.0, driver - first),
    }
    if calls.each:
        alone = math.ceil(calls.each) * work.turn_tokens * rates.decode_s(1)
        waits[Bound.CALLS] = calls.slowest_s(work.trajectories) + alone
        waits[Bound.QUOTA] = calls.quota_s(work.trajectories)
    return Rollout(first, waits)


def step_time(work: Work, rates: Rates, gpus: int, parameters: float) -> StepTime:
    """Of a model of ``parameters`` on ``gpus``; passes gather the weights (2 bytes each, twice with
    gradients) and scatter the gradients (4 bytes) while they compute, so the longer of both counts.
    """
    tokens = work.trajectories * work.tokens / gpus
    gather_s = 2 * parameters * (1 - 1 / gpus) / (_INSIDE if gpus <= _NODE_GPUS else _BETWEEN)
    scoring = max(tokens / rates.scoring_tokens_per_s, gather_s)
    update = max(tokens / rates.update_tokens_per_s, 4 * gather_s)
    return StepTime(
        rollout=rollout_time(work, rates, gpus),
        scoring_s=work.scorings * scoring,
        update_s=work.updates * update,
        publish_s=rates.publish_s + gather_s,
        driver_s=work.trajectories * rates.trajectory_s,
    )
