"""Spares the garbage collector what lives as long as the process."""

from __future__ import annotations

import atexit
import gc


def exempt_imports() -> None:
    """Call once everything is imported: the collector no longer walks over those objects.

    torch, transformers and vLLM leave about a million of them, and a driver that serves hundreds
    of calls a second would spend a fifth of its time on looking at them again and again
    (benchmarks/pool_throughput.py).
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or extension modules report their objects as leaked
