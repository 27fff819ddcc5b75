"""Spares the garbage collector work that frees nothing."""

from __future__ import annotations

import atexit
import gc

# Allocations between two looks at the youngest objects; Python's own value is 700.
_YOUNGEST = 50_000


def collect_rarely() -> None:
    """Call before anything large is imported: torch, transformers and vLLM make about a million
    objects, and the collector would look at them again and again while they come. Later, hundreds
    of calls under way keep thousands of young objects alive, which it would look at in vain too.
    """
    youngest, *older = gc.get_threshold()
    if 0 < youngest < _YOUNGEST:  # 0: it is switched off
        gc.set_threshold(_YOUNGEST, *older)


def spare_the_collector() -> None:
    """The collector leaves alone what there is now, which it would look at wherever memory is to be
    freed, twice a step; to be called again when more is loaded."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or extension modules report their objects as leaked
