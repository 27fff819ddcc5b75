"""Memory that a trainer process writes and an engine's process reads.

Guarantees: a buffer's handle consists of plain values; what is attached by it is the same memory,
not a copy; the memory is free once both sides have let it go, also when a process dies.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Handle = dict[str, Any]

_ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def memory_id(device: torch.device) -> str:
    """Names the memory of ``device``, alike in every process of a node: a GPU's UUID, or "cpu"."""
    if device.type == "cpu":
        return "cpu"
    return str(torch.cuda.get_device_properties(device).uuid)


def create_buffer(size: int, device: torch.device) -> HostBuffer | CudaBuffer:
    """The writing side: ``size`` bytes in the memory of ``device``, as a flat uint8 tensor."""
    return CudaBuffer(size, device) if device.type == "cuda" else HostBuffer(size)


def attach_buffer(handle: Handle, device: torch.device) -> torch.Tensor:
    """The memory of another process's buffer, (size,) uint8; it stays mapped while a tensor on it
    lives."""
    if device.type == "cuda":
        return _attach_cuda(handle, device)
    # A process may open the files of another one of its user.
    with open(f"/proc/{handle['pid']}/fd/{handle['file']}", "r+b", buffering=0) as file:
        return torch.frombuffer(mmap.mmap(file.fileno(), handle["size"]), dtype=torch.uint8)


class HostBuffer:
    """Anonymous shared memory: it has no name to clash or to be left behind, and is not bounded by
    the size of /dev/shm (64 MB in a Docker container)."""

    def __init__(self, size: int) -> None:
        self._file = os.memfd_create("verl-weights")
        os.ftruncate(self._file, size)
        self.memory = torch.frombuffer(mmap.mmap(self._file, size), dtype=torch.uint8)
        self.handle: Handle = {
            "pid": os.getpid(),
            "file": self._file,
            "inode": os.fstat(self._file).st_ino,  # tells buffers apart that had the same number
            "size": size,
        }

    def close(self) -> None:
        """Lets the memory go; the reading side has done so before."""
        self.memory = torch.empty(0, dtype=torch.uint8)
        os.close(self._file)


class CudaBuffer:
    """GPU memory shared by CUDA IPC.

    torch counts the readers of an export: each buffer is to be attached exactly once.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        # CUDA shares whole segments: in a pool of its own the buffer's holds nothing else, and it
        # goes back to the driver when the buffer is closed.
        self._pool = torch.cuda.MemPool()
        with _plain_segments(), torch.cuda.use_mem_pool(self._pool):
            self.memory = torch.empty(size, dtype=torch.uint8, device=device)
        exported = self.memory.untyped_storage()._share_cuda_()
        names = (
            *("device", "segment", "size", "offset", "counter", "counter_offset"),
            *("event", "wait_for_event"),
        )
        self.handle: Handle = dict(zip(names, exported, strict=True))

    def close(self) -> None:
        """See :meth:`HostBuffer.close`."""
        self.memory = torch.empty(0, dtype=torch.uint8)
        torch.cuda.ipc_collect()
        del self._pool


def _attach_cuda(handle: Handle, device: torch.device) -> torch.Tensor:
    storage = torch.UntypedStorage._new_shared_cuda(
        device.index,  # the exporting process may see the GPU under another index
        *(handle[name] for name in ("segment", "size", "offset", "counter", "counter_offset")),
        *(handle[name] for name in ("event", "wait_for_event")),
    )
    return torch.empty(0, dtype=torch.uint8, device=device).set_(storage)


@contextmanager
def _plain_segments() -> Iterator[None]:
    """Segments by cudaMalloc, also where the user asked for expandable ones: those can be shared
    only where one process may take over another's file descriptors, which containers forbid."""
    before = next((os.environ[name] for name in _ALLOCATOR_VARIABLES if name in os.environ), "")
    plain = without_expandable_segments(before)
    if plain == before:
        yield
        return
    torch.cuda.memory._set_allocator_settings(plain)
    try:
        yield
    finally:
        torch.cuda.memory._set_allocator_settings(before)


def without_expandable_segments(settings: str) -> str:
    """torch's allocator settings with that option off and all others as they are: torch resets
    every option that it is not given."""
    options = [option.strip() for option in settings.split(",")]
    return ",".join(
        "expandable_segments:False"
        if option.replace(" ", "").lower() in ("expandable_segments:true", "expandable_segments:1")
        else option
        for option in options
    )
