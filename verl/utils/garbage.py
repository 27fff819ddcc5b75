"""Spares the garbage collector work that frees nothing."""

from __future__ import annotations

import atexit
import gc

# Allocations between two looks at the youngest objects; Python's own value is 700.
_YOUNGEST = 50_000


def spare_the_collector() -> None:
    """Call once everything is imported: the collector leaves those objects alone, and looks less
    often at the others.

    torch, transformers and vLLM leave about a million objects, and hundreds of calls under way
    keep thousands of young ones alive: a driver would spend a third of its time on looking at them
    again and again (benchmarks/pool_throughput.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNGEST, *gc.get_threshold()[1:])
    atexit.register(gc.unfreeze)  # or extension modules report their objects as leaked
