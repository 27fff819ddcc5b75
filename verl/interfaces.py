"""What the trainer needs from a rollout source, and what a rollout source needs from an engine.

The trainer hands prompts to a :class:`RolloutSource` and gets trajectories back; it knows nothing
of turns, tags or tools. The source generates through a :class:`GenerationEngine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from verl.config.sampling import Sampling

if TYPE_CHECKING:  # DataProto brings torch, which reading data and computing rewards do without
    from verl.protocol import DataProto
    from verl.trajectory import Trajectory


@dataclass(kw_only=True)
class SamplingParams(Sampling):
    """How the engine samples one generation.

    Attributes:
        max_tokens: upper bound of tokens in this generation.
        stop: strings that end the generation; the text that completed the stop is kept.
        seed: of this generation's own random stream, so that its noise depends on no other
            request and no replica; None draws from the engine's. Greedy sampling needs none.
    """

    max_tokens: int
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


@dataclass(kw_only=True)
class RolloutOptions(Sampling):
    """Sampling of a whole rollout.

    Attributes:
        max_tokens: bounds the tokens of a trajectory after its prompt, sampled and observed; None
            leaves it to the source's own limits.
        seed: the run's: the source derives each generation's own from it (see
            :func:`verl.utils.generation_seed.generation_seed`); None leaves sampling unseeded.
    """

    max_tokens: int | None = None
    seed: int | None = None

    @classmethod
    def of(cls, sampling: Sampling, seed: int | None) -> RolloutOptions:
        """As ``sampling`` says."""
        return cls(**sampling.as_keywords(), seed=seed)

    def generation(
        self, max_tokens: int, stop: tuple[str, ...], seed: int | None
    ) -> SamplingParams:
        """Of one generation of the rollout; for the arguments see :class:`SamplingParams`."""
        return SamplingParams(**self.as_keywords(), max_tokens=max_tokens, stop=stop, seed=seed)


class RolloutSource(Protocol):
    """Turns requests into trajectories: exactly one per request, in request order."""

    def start(
        self, requests: Sequence[RolloutRequest], options: RolloutOptions
    ) -> Future[list[Trajectory]]:
        """Begins what :meth:`rollout` does; it goes on beside the caller. Cancelling the future
        ends it; several may be under way."""
        ...

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
        scores: (B,) float64, the whole reward of each trajectory; the trainer puts it on the last
            sampled token, less what ``steps`` puts elsewhere.
        metrics: per-sample numbers, each (B,) float64, reported beside the reward. The key
            ``"metric"`` is the task's main metric, ``"cost"`` the raw cost.
        steps: of each trajectory the parts of its score that belong to its turns, one number for
            each of the policy's generations, which the trainer puts on that generation's last
            token; an empty entry has none, and None is an empty entry for each.
    """

    scores: np.ndarray
    metrics: dict[str, np.ndarray]
    steps: Sequence[Sequence[float]] | None = None


class Stateful(Protocol):
    """A part of a run whose state checkpoints keep; later steps leave alone what it returned."""

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave."""
        ...


class RewardFunction(Stateful, Protocol):
    """Scores a collated batch. ``validate=True`` must leave any training state unchanged."""

    def __call__(self, batch: DataProto, validate: bool) -> RewardOutput:
        """Scores every trajectory of ``batch``."""
        ...
