"""A trajectory in the making: its segments, and the room that is left for more.

Guarantees: the ids are those that the engine read and sampled; the prompt is never cut, and the
context never grows past its limit; the same run seed samples the same tokens, whatever else is
under way.
"""

from __future__ import annotations

from collections.abc import Sequence

from verl.interfaces import (
    GenerationEngine,
    GenerationOutput,
    OnTokens,
    RolloutOptions,
    RolloutRequest,
)
from verl.trajectory import RecordT, Segment, SegmentKind, Trajectory, TrajectoryStatus
from verl.utils.generation_seed import generation_seed


class Episode:
    """One request's; ``max_length`` is of the whole context, prompt and response, in tokens."""

    def __init__(
        self,
        engine: GenerationEngine,
        request: RolloutRequest,
        options: RolloutOptions,
        prompt_ids: Sequence[int],
        max_length: int,
    ) -> None:
        self._engine = engine
        self._request = request
        self._options = options
        self._max_length = max_length
        self._segments = [Segment(SegmentKind.PROMPT, tuple(prompt_ids))]
        self._token_ids = list(prompt_ids)
        self._generations = 0

    @property
    def room(self) -> int:
        """Tokens that it may still grow by; <= 0 when it is full."""
        most, prompt = self._max_length, len(self._segments[0].token_ids)
        if self._options.max_tokens is not None:
            most = min(most, prompt + self._options.max_tokens)
        return most - len(self._token_ids)

    async def generate(
        self, max_tokens: int, stop: tuple[str, ...], on_tokens: OnTokens | None = None
    ) -> GenerationOutput:
        """Lets the policy write on, at most ``max_tokens`` and what there is room for (at least 1).

        The output's ``finish_reason`` is "length" and :attr:`room` is used up where it was cut for
        want of room. For ``on_tokens`` see :class:`~verl.interfaces.GenerationEngine`.
        """
        uid, sample = self._request.uid, self._request.sample_index
        seed = self._options.seed
        if seed is not None:
            seed = generation_seed(seed, uid, sample, self._generations)
        output = await self._engine.generate(
            list(self._token_ids),
            self._options.generation(max_tokens=min(max_tokens, self.room), stop=stop, seed=seed),
            f"{uid}/{sample}",
            on_tokens,
        )
        self._generations += 1
        self._add(Segment(SegmentKind.ACTION, output.token_ids, output.log_probs))
        return output

    def observe(self, token_ids: Sequence[int]) -> bool:
        """Lets the policy read on; False, and nothing is added, if no token more would fit."""
        if len(self._token_ids) + len(token_ids) >= self._max_length:
            return False
        self._add(Segment(SegmentKind.OBSERVATION, tuple(token_ids)))
        return True

    def finish(
        self, status: TrajectoryStatus, record: RecordT, excluded: bool = False
    ) -> Trajectory[RecordT]:
        """The trajectory; for the arguments see :class:`~verl.trajectory.Trajectory`."""
        return Trajectory(
            self._request.uid,
            self._segments,
            status,
            record,
            self._request.sample_index,
            excluded,
        )

    def _add(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._token_ids.extend(segment.token_ids)
