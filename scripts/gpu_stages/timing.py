"""Time and memory of a piece of work on either device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

GIB = 2**30


def synchronize(device: torch.device) -> None:
    """Waits for the device's work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Median wall seconds of ``work`` after one warm-up, the device's work included."""
    work()
    synchronize(device)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Most GPU memory allocated during ``work``; 0 on CPU, where torch does not count."""
    if device.type != "cuda":
        work()
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)
