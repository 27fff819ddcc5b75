"""Trainer side of the weight transfer.

Guarantees: each fill lays the plan's next bucket out in one of two buffers, in turn; a rank that no
engine reads from takes part in gathering and keeps nothing; between publications no GPU memory is
held, and on the host the two buffers.
"""

from __future__ import annotations

import torch

from verl.workers.weight_transfer.buckets import BucketPlan, FilledBucket, NamedTensors, Slot
from verl.workers.weight_transfer.buffers import (
    CudaBuffer,
    Handle,
    HostBuffer,
    create_buffer,
    memory_id,
)


class BufferPair:
    """One rank's buffers, used in turn: one is filled while the engines load the other."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._buffers: dict[int, HostBuffer | CudaBuffer] = {}

    def get(self, number: int, size: int) -> HostBuffer | CudaBuffer:
        """The buffer of bucket ``number``, with at least ``size`` bytes."""
        index = number % 2
        present = self._buffers.get(index)
        if present is None or present.memory.numel() < size:
            if present is not None:
                present.close()
            self._buffers[index] = create_buffer(size, self.device)
        return self._buffers[index]

    def release(self) -> None:
        """After a publication: the engine's KV cache wants the GPU's memory. The host's stays, as
        fresh memory costs several times what the copy into it does."""
        if self.device.type == "cuda":
            self.close()

    def close(self) -> None:
        """Frees everything."""
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers.clear()


class BucketSender:
    """One rank's part of one publication.

    Args:
        plan: the same on every rank.
        tensors: whole tensors in the plan's order; drawing one is a collective.
        buffers: where to lay them out; None on a rank that no engine reads from.
    """

    def __init__(self, plan: BucketPlan, tensors: NamedTensors, buffers: BufferPair | None) -> None:
        self._plan = plan
        self._tensors = tensors
        self._buffers = buffers
        self._next = 0

    def fill(self) -> FilledBucket:
        """Gathers the next bucket; the engines have let go of the last but one before. Collective;
        an IndexError if all buckets have been filled."""
        slots = self._plan.buckets[self._next]
        sources: dict[str, Handle] = {}
        if self._buffers is None:
            for slot in slots:
                self._draw(slot)
        else:
            buffer = self._buffers.get(self._next, self._plan.buffer_size(self._next))
            for slot in slots:
                slot.view(buffer.memory, self._plan.dtype).copy_(self._draw(slot))
            device = self._buffers.device
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # the engine reads on a stream of its own
            sources = {memory_id(device): buffer.handle}
        self._next += 1
        return FilledBucket(str(self._plan.dtype).removeprefix("torch."), slots, sources)

    def _draw(self, slot: Slot) -> torch.Tensor:
        name, tensor = next(self._tensors)
        if (name, [*tensor.shape]) != (slot.name, slot.shape):
            raise ValueError(f"{name} {tuple(tensor.shape)} came in the place of {slot}")
        return tensor
