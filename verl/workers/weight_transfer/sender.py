"""Trainer side of the weight transfer.

Guarantees: what :meth:`publish` returns describes every parameter once, and stays readable by the
engine until :meth:`release`.
"""

from __future__ import annotations

from collections.abc import Iterable
from multiprocessing import shared_memory
from typing import Any, Protocol

import torch

NamedTensors = Iterable[tuple[str, torch.Tensor]]


class WeightSender(Protocol):
    """Lays tensors out where an engine on the same node can read them."""

    backend: str

    def publish(self, tensors: NamedTensors, rank: int) -> dict[str, Any] | None:
        """Consumes ``tensors`` (a collective: every rank must) and returns the update's
        description, None on ranks that have nothing to say."""
        ...

    def release(self) -> None:
        """Frees what the last publish laid out."""
        ...


class SharedMemorySender:
    """Rank 0 copies all tensors into one shared-memory segment (CPU)."""

    backend = "shared_memory"

    def __init__(self) -> None:
        self._segment: shared_memory.SharedMemory | None = None

    def publish(self, tensors: NamedTensors, rank: int) -> dict[str, Any] | None:
        """See :class:`WeightSender`."""
        kept = [(n, t.cpu().contiguous()) for n, t in tensors]
        if rank != 0:
            return None
        self.release()
        total = sum(t.numel() * t.element_size() for _, t in kept)
        self._segment = shared_memory.SharedMemory(create=True, size=max(1, total))
        entries = []
        offset = 0
        for name, tensor in kept:
            size = tensor.numel() * tensor.element_size()
            target = torch.frombuffer(
                self._segment.buf, dtype=tensor.dtype, count=tensor.numel(), offset=offset
            )
            target.copy_(tensor.flatten())
            entries.append(
                (name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), offset)
            )
            offset += size
            del target  # an exported buffer would keep the segment from closing
        names, dtype_names, shapes, offsets = (
            list(column) for column in zip(*entries, strict=True)
        )
        return {
            "segment": self._segment.name,
            "names": names,
            "dtype_names": dtype_names,
            "shapes": shapes,
            "offsets": offsets,
        }

    def release(self) -> None:
        """See :class:`WeightSender`."""
        if self._segment is not None:
            self._segment.close()
            self._segment.unlink()
            self._segment = None


class CudaIpcSender:
    """Every rank exports handles to its own GPU copy, for the engine on that GPU (CUDA IPC)."""

    backend = "ipc"

    def __init__(self) -> None:
        self._kept: list[torch.Tensor] = []

    def publish(  # every rank publishes
        self,
        tensors: NamedTensors,
        rank: int,  # noqa: ARG002
    ) -> dict[str, Any] | None:
        """See :class:`WeightSender`."""
        from torch.multiprocessing.reductions import reduce_tensor

        uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        names, dtype_names, shapes, handles = [], [], [], []
        for name, tensor in tensors:
            value = tensor.detach().contiguous()
            self._kept.append(value)
            names.append(name)
            dtype_names.append(str(value.dtype).removeprefix("torch."))
            shapes.append(list(value.shape))
            handles.append({uuid: reduce_tensor(value)[1]})
        torch.cuda.synchronize()
        return {
            "names": names,
            "dtype_names": dtype_names,
            "shapes": shapes,
            "ipc_handles": handles,
        }

    def release(self) -> None:
        """See :class:`WeightSender`."""
        self._kept.clear()
        torch.cuda.ipc_collect()


def make_weight_sender(device: str) -> WeightSender:
    """The sender for "cpu" or "cuda"."""
    return CudaIpcSender() if device == "cuda" else SharedMemorySender()


def merge_update_infos(infos: list[dict[str, Any] | None]) -> dict[str, Any]:
    """One description for all engines from those of the ranks; handles are joined by GPU.

    Raises:
        ValueError: if no rank published.
    """
    published = [info for info in infos if info is not None]
    if not published:
        raise ValueError("no rank published weights")
    merged = dict(published[0])
    if "ipc_handles" in merged:
        per_parameter = zip(*(info["ipc_handles"] for info in published), strict=True)
        merged["ipc_handles"] = [
            {uuid: handle for entry in entries for uuid, handle in entry.items()}
            for entries in per_parameter
        ]
    return merged
