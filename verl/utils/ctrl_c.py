"""Keeps Ctrl-C from processes that are to outlive it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Processes started in the block never see Ctrl-C: it reaches the whole foreground group, and
    whether it ends them or only the work under way is for the process that started them to say."""
    # It starts with the first spawned process, and unblocks SIGINT in the thread that starts it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
