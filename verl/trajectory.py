"""Trajectory: the one source of truth about what the policy saw and sampled.

A trajectory is an ordered list of segments. Token ids enter and leave the engine as ids and are
never decoded and re-encoded; masks, position ids and lengths are derived here and nowhere else.

Guarantees:

* ``token_ids`` is the exact sequence the engine was conditioned on and sampled, in order;
* ``response_mask`` is 1 on sampled (action) tokens and 0 on every other token;
* every trajectory ends in exactly one :class:`TrajectoryStatus`;
* what the agent did beside sampling is one typed :class:`AgentRecord`, which ``verl`` never looks
  into.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

if TYPE_CHECKING:  # imported where tensors are made: it takes seconds, and few who read need them
    import torch

    from verl.protocol import DataProto


class SegmentKind(StrEnum):
    """Who wrote a segment."""

    PROMPT = "prompt"
    ACTION = "action"
    OBSERVATION = "observation"


class TrajectoryStatus(StrEnum):
    """How a trajectory ended."""

    ANSWERED = "answered"
    TURNS_EXHAUSTED = "turns_exhausted"
    TRUNCATED = "truncated"
    FAILED = "failed"


@dataclass(frozen=True)
class Segment:
    """A run of tokens of one kind; ``log_probs`` has one entry per token of an action."""

    kind: SegmentKind
    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        expected = len(self.token_ids) if self.kind is SegmentKind.ACTION else 0
        if len(self.log_probs) != expected:
            raise ValueError(
                f"a segment of kind {self.kind.value!r} with {len(self.token_ids)} tokens needs "
                f"{expected} log_probs, got {len(self.log_probs)}"
            )


@dataclass(frozen=True)
class AgentRecord:
    """What an agent tells of a trajectory beside its tokens: text, turns, what tools did.

    The reward reads it, the files of a run keep it. An agent that has something to tell derives a
    dataclass from this one; fields that JSON has no form for need :meth:`to_json` and
    :meth:`from_json` of its own.

    Attributes:
        prompt_name: what a prompt is called in the files of a run and in the rows of data, a noun
            in the singular.
    """

    prompt_name: ClassVar[str] = "prompt"

    def numbers(self) -> dict[str, float]:
        """What metrics are made of, by name; by default the fields that are numbers."""
        return numbers_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave; names that it does not write are left alone.

        Raises:
            KeyError, TypeError, ValueError: for the data of another agent or version.
        """
        return cls(**{field.name: content[field.name] for field in fields(cls)})


RecordT = TypeVar("RecordT", bound=AgentRecord)


def numbers_of(content: Mapping[str, Any]) -> dict[str, float]:
    """What of it is a number, which a truth value is not."""
    return {
        name: value
        for name, value in content.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


@dataclass
class Trajectory(Generic[RecordT]):
    """One rollout of one prompt.

    Attributes:
        uid: identity of the prompt; the ``n`` samples of one prompt share it (GRPO's group).
        segments: the first is the prompt, the rest alternate as the agent wrote and read.
        status: how it ended.
        record: what the agent tells of it.
        sample_index: tells the samples of one prompt apart.
        excluded: what happened in it was not the policy's doing (a tool could not be reached), so
            training learns nothing from it; the agent sets it.
    """

    uid: str
    segments: list[Segment]
    status: TrajectoryStatus = TrajectoryStatus.FAILED
    record: RecordT = field(default_factory=AgentRecord)  # type: ignore[assignment]
    sample_index: int = 0
    excluded: bool = False

    @property
    def prompt_ids(self) -> list[int]:
        """Token ids of the prompt."""
        return list(self.segments[0].token_ids)

    @property
    def response_ids(self) -> list[int]:
        """Token ids after the prompt: actions and observations, in order."""
        return [token for segment in self.segments[1:] for token in segment.token_ids]

    @property
    def token_ids(self) -> list[int]:
        """The whole context: prompt and response."""
        return self.prompt_ids + self.response_ids

    @property
    def response_mask(self) -> list[int]:
        """1 on every sampled token of the response, 0 on observations."""
        return [
            int(segment.kind is SegmentKind.ACTION)
            for segment in self.segments[1:]
            for _ in segment.token_ids
        ]

    @property
    def turn_ends(self) -> list[int]:
        """Where in the response each action's last token lies. An action without a token shares
        that of the action before; -1 if there is none."""
        ends: list[int] = []
        position, last = 0, -1
        for segment in self.segments[1:]:
            position += len(segment.token_ids)
            if segment.kind is SegmentKind.ACTION:
                last = position - 1 if segment.token_ids else last
                ends.append(last)
        return ends

    @property
    def log_probs(self) -> list[float]:
        """Engine log-probs over the response; 0.0 on observations."""
        return [
            value
            for segment in self.segments[1:]
            for value in segment.log_probs or (0.0,) * len(segment.token_ids)
        ]


def _pad(
    rows: Sequence[Sequence[float]], value: float, dtype: torch.dtype, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, longest), at least one column, filled up with ``value``, and bool where they are real.

    All rows in one go, since a tensor of each takes most of a large batch's time.
    """
    import torch

    lengths = torch.tensor([len(row) for row in rows]).unsqueeze(-1)
    width = max(int(lengths.max()), 1)
    columns = torch.arange(width)
    real = columns >= width - lengths if left else columns < lengths
    flat = torch.tensor(list(itertools.chain.from_iterable(rows)), dtype=dtype)
    return torch.full(real.shape, value, dtype=dtype).masked_scatter_(real, flat), real


def collate(trajectories: Sequence[Trajectory], pad_token_id: int) -> DataProto:
    """Joins trajectories into one padded batch; prompts left-padded, responses right-padded.

    Widths are those of the longest prompt and response. Returns a :class:`DataProto` with

    * ``prompts`` (B, P) int64, ``responses`` (B, R) int64, ``input_ids`` (B, P+R) int64
    * ``attention_mask`` (B, P+R) int64: 1 on real tokens, from lengths, never from ``id != pad``
    * ``position_ids`` (B, P+R) int64: 0 at the first real token
    * ``response_mask`` (B, R) int64: 1 on sampled tokens
    * ``response_attention_mask`` (B, R) int64: 1 on sampled and observed tokens
    * ``rollout_log_probs`` (B, R) float32

    and non-tensor ``uid``, ``status`` and ``record`` (object arrays of length B).
    """
    import torch

    from verl.protocol import DataProto

    if not trajectories:
        raise ValueError("cannot collate an empty list of trajectories")
    prompts, prompt_real = _pad(
        [t.prompt_ids for t in trajectories], pad_token_id, torch.int64, left=True
    )
    responses, response_real = _pad(
        [t.response_ids for t in trajectories], pad_token_id, torch.int64
    )
    response_mask, _ = _pad([t.response_mask for t in trajectories], 0, torch.int64)
    log_probs, _ = _pad([t.log_probs for t in trajectories], 0.0, torch.float32)
    attention_mask = torch.cat([prompt_real, response_real], dim=1).long()
    tensors = {
        "prompts": prompts,
        "responses": responses,
        "input_ids": torch.cat([prompts, responses], dim=1),
        "attention_mask": attention_mask,
        "position_ids": (attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        "response_mask": response_mask,
        "response_attention_mask": response_real.long(),
        "rollout_log_probs": log_probs,
    }
    objects = {
        "uid": [t.uid for t in trajectories],
        "status": [t.status.value for t in trajectories],
        "record": [t.record for t in trajectories],
    }
    return DataProto.from_dict(tensors, objects)
