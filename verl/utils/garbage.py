"""Spares the garbage collector work that frees nothing."""

from __future__ import annotations

import atexit
import gc

# Allocations between two looks at the youngest objects; Python's own value is 700.
_YOUNGEST = 50_000


def collect_rarely() -> None:
    """Call before anything large is imported: torch, transformers and vLLM make about a million
    objects, and the collector would look at them again and again while they come, a tenth of the
    time that their import takes. Later, hundreds of calls under way keep thousands of young
    objects alive, which it would look at in vain too (benchmarks/pool_throughput.py).
    """
    gc.set_threshold(_YOUNGEST, *gc.get_threshold()[1:])


def spare_the_collector() -> None:
    """Call once everything is imported and loaded: the collector leaves those objects alone.

    Looking at all that a rank has imported takes 0.2 s, twice a step where memory is to be freed.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or extension modules report their objects as leaked
