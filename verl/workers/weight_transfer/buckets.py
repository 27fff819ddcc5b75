"""Cuts a model's tensors into buckets of bounded size.

Guarantees: every tensor lies whole in exactly one bucket, in the order given; the plan depends on
nothing but its arguments, so every rank makes the same one; a bucket is larger than the bound only
if it holds a single tensor that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from verl.errors import UserError

BACKEND = "buckets"  # vLLM's name for our transfer engine
# Every dtype can be viewed at such an offset, and copies start on a cache line.
_ALIGNMENT = 256

# Of tensors in one order: whole shapes, and the tensors one at a time.
NamedShapes = Sequence[tuple[str, torch.Size]]
NamedTensors = Iterator[tuple[str, torch.Tensor]]


class WeightTransferError(UserError):
    """The weights cannot be handed to the rollout engine."""


@dataclass(frozen=True)
class WeightFormat:
    """How the engines want their weights: ``dtype`` such as "bfloat16", bound on a bucket."""

    dtype: str
    max_bucket_bytes: int


@dataclass(frozen=True)
class OpenedUpdate:
    """One rank's part of a publication; ``exported``: the memory that engines may read from this
    rank, None if none does."""

    num_buckets: int
    exported: str | None


@dataclass(frozen=True)
class Slot:
    """One tensor's place in a bucket; ``offset`` and ``nbytes`` in bytes."""

    name: str
    shape: list[int]
    offset: int
    nbytes: int

    def view(self, buffer: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The tensor that lies here in a flat uint8 buffer."""
        return buffer[self.offset : self.offset + self.nbytes].view(dtype).view(self.shape)


@dataclass(frozen=True)
class BucketPlan:
    """What goes into which bucket."""

    dtype: torch.dtype
    buckets: list[list[Slot]]

    def buffer_size(self, number: int) -> int:
        """Bytes of the buffer for bucket ``number``, which it shares with every second one."""
        return max(slots[-1].offset + slots[-1].nbytes for slots in self.buckets[number % 2 :: 2])


@dataclass(frozen=True)
class FilledBucket:
    """A bucket that lies ready. Its ``asdict`` holds plain values, which vLLM's own encoding takes
    without pickle."""

    dtype: str  # of all tensors, such as "bfloat16"
    slots: list[Slot]
    # Where to read it, by the memory it lies in (buffers.memory_id); empty on a rank that no engine
    # reads from.
    sources: dict[str, dict[str, Any]]


def plan_buckets(shapes: NamedShapes, dtype: torch.dtype, max_bytes: int) -> BucketPlan:
    """Fills bucket after bucket in the order of ``shapes``.

    Args:
        shapes: names and whole shapes of all tensors.
        dtype: in which they are sent.
        max_bytes: bound on a bucket; a larger tensor has a bucket of its own.
    """
    buckets: list[list[Slot]] = []
    end = 0
    for name, shape in shapes:
        nbytes = shape.numel() * dtype.itemsize
        offset = -(-end // _ALIGNMENT) * _ALIGNMENT
        if not buckets or offset + nbytes > max_bytes:
            buckets.append([])
            offset = 0
        buckets[-1].append(Slot(name, list(shape), offset, nbytes))
        end = offset + nbytes
    return BucketPlan(dtype, buckets)


def merge_sources(parts: Sequence[FilledBucket]) -> FilledBucket:
    """One description for all engines from those of the ranks."""
    sources = {memory: source for part in parts for memory, source in part.sources.items()}
    return replace(parts[0], sources=sources)
