"""Trainer side of the weight transfer.

Guarantees: each fill lays the plan's next bucket out in one of two buffers, in turn; a rank that no
engine reads from takes part in gathering and keeps nothing; after :meth:`BucketSender.close` no
memory is held.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from verl.workers.weight_transfer.buckets import BucketPlan, FilledBucket, Slot
from verl.workers.weight_transfer.buffers import SharedBuffer, create_buffer, memory_id

NamedTensors = Iterator[tuple[str, torch.Tensor]]

# One is filled while the engines load the other.
_BUFFERS = 2


class BucketSender:
    """One rank's part of one publication.

    Args:
        plan: the same on every rank.
        tensors: whole tensors in the plan's order; drawing one is a collective.
        device: of this rank.
        exports: whether an engine reads from this rank.
    """

    def __init__(
        self, plan: BucketPlan, tensors: NamedTensors, device: torch.device, exports: bool
    ) -> None:
        self._plan = plan
        self._tensors = tensors
        self._device = device
        self._exports = exports
        self._buffers: list[SharedBuffer] = []
        self._next = 0

    def fill(self) -> FilledBucket:
        """Gathers the next bucket; the engines have let go of the last but one before. Collective.

        Raises:
            IndexError: if all buckets have been filled.
        """
        slots = self._plan.buckets[self._next]
        buffer = self._buffer() if self._exports else None
        self._next += 1
        for slot in slots:
            name, tensor = next(self._tensors)
            if (name, tensor.shape) != (slot.name, slot.shape):
                raise ValueError(f"{name} {tensor.shape} came in the place of {slot}")
            if buffer is not None:
                view_slot(buffer.memory, slot, self._plan.dtype).copy_(tensor)
        if buffer is not None and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the engine reads on a stream of its own
        dtype = str(self._plan.dtype).removeprefix("torch.")
        sources = {} if buffer is None else {memory_id(self._device): buffer.handle}
        return FilledBucket(dtype, slots, sources)

    def _buffer(self) -> SharedBuffer:
        if self._next < _BUFFERS:
            self._buffers.append(create_buffer(self._plan.capacity, self._device))
        return self._buffers[self._next % _BUFFERS]

    def close(self) -> None:
        """Frees the buffers; every engine has finished its update."""
        for buffer in self._buffers:
            buffer.close()
        self._buffers.clear()


def view_slot(memory: torch.Tensor, slot: Slot, dtype: torch.dtype) -> torch.Tensor:
    """The tensor that lies at ``slot`` of a flat uint8 buffer."""
    return memory[slot.offset : slot.offset + slot.nbytes].view(dtype).view(slot.shape)
