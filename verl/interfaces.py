"""What the trainer needs from a rollout source, and what a rollout source needs from an engine.

The trainer hands prompts to a :class:`RolloutSource` and gets trajectories back; it knows nothing
of turns, tags or tools. The source generates through a :class:`GenerationEngine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:  # they bring torch, which reading data and computing rewards do without
    from verl.protocol import DataProto
    from verl.trajectory import Trajectory


@dataclass(frozen=True)
class SamplingParams:
    """How the engine samples one generation.

    Attributes:
        max_tokens: upper bound of tokens in this generation.
        temperature: 0.0 is greedy.
        top_p: nucleus; 1.0 samples the full distribution (what the trainer scores).
        top_k: -1 switches it off.
        stop: strings that end the generation; the text that completed the stop is kept.
        seed: of this generation's own random stream, so that its noise depends on no other
            request and no replica; None draws from the engine's. Greedy sampling needs none.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class GenerationOutput:
    """Sampled token ids with their log-probs; ``finish_reason`` is "stop" or "length"."""

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish_reason: str


OnTokens = Callable[[Sequence[int]], None]
"""Takes the newest token ids of a generation under way."""


class GenerationEngine(Protocol):
    """Token ids in, token ids out."""

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        session_id: str,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        """Samples a continuation; calls of one ``session_id`` go to the same replica.

        ``on_tokens`` is called on the caller's event loop, as often as the engine can; all it got
        is, joined, the output's ``token_ids``. Cancelling the call ends the generation.
        """
        ...


@dataclass(frozen=True)
class RolloutRequest:
    """One prompt to roll out once: chat messages, and the row it came from.

    ``sample_index`` tells the n samples of one ``uid`` apart.
    """

    uid: str
    messages: list[dict[str, str]]
    sample_index: int = 0
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RolloutOptions:
    """Sampling of a whole rollout (see :class:`SamplingParams` for the fields).

    ``max_tokens`` bounds the tokens of a trajectory after its prompt, sampled and observed; None
    leaves it to the source's own limits. ``seed`` is the run's: the source derives each
    generation's own from it (see :func:`verl.utils.seeding.generation_seed`); None leaves sampling
    unseeded.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    max_tokens: int | None = None
    seed: int | None = None


class RolloutSource(Protocol):
    """Turns requests into trajectories: exactly one per request, in request order."""

    def rollout(
        self,
        requests: Sequence[RolloutRequest],
        options: RolloutOptions,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory]:
        """Blocks until every request has its trajectory; ``on_finished`` is called as each ends.

        An exception of ``on_finished`` ends the rollout and is raised.
        """
        ...


@dataclass(frozen=True)
class RewardOutput:
    """Rewards of a batch.

    Attributes:
        scores: (B,) float64, one scalar reward per trajectory; the trainer puts it on the last
            response token.
        metrics: per-sample numbers, each (B,) float64, reported beside the reward. The key
            ``"metric"`` is the task's main metric, ``"cost"`` the raw cost.
    """

    scores: np.ndarray
    metrics: dict[str, np.ndarray]


class RewardFunction(Protocol):
    """Scores a collated batch. ``validate=True`` must leave any training state unchanged."""

    def __call__(self, batch: DataProto, validate: bool) -> RewardOutput:
        """Scores every trajectory of ``batch``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        ...
