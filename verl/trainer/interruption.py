"""Signals that end a run in good order: SIGINT (Ctrl-C), SIGTERM, SIGUSR1 (Slurm's preemption).

Guarantees: within :meth:`Interruption.watching` a signal changes nothing but a note, which the loop
reads where the run can stop; while rollouts run it raises at once, since they may be abandoned. A
second SIGINT ends the process at once, as it does without this module.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# sysexits.h's EX_TEMPFAIL: not an error, to be tried again.
EXIT_INTERRUPTED = 75
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

logger = logging.getLogger(__name__)


class StopRequestedError(Exception):
    """A signal has told the run to end; the message is its name."""


def tell_that_it_is_saved(stop: StopRequestedError, steps: int) -> None:
    """Logs that a run has ended after ``steps`` steps, and how it goes on."""
    logger.warning(
        "interrupted by %s after %d steps, which are saved; the same command goes on "
        "(trainer.resume=auto)",
        *(stop, steps),
    )


class Interruption:
    """Watches for signals; belongs to the main thread."""

    def __init__(self) -> None:
        self._requested: str | None = None
        self._abandons = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Takes the signals over for as long as the block lasts."""
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def abandoning(self) -> Iterator[None]:
        """Work that a signal may end at any point, by :class:`StopRequestedError`."""
        self._abandons = True
        try:
            self.check()
            yield
        finally:
            self._abandons = False

    def check(self) -> None:
        """Raises :class:`StopRequestedError` if there was a signal."""
        if self._requested is not None:
            raise StopRequestedError(self._requested)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._requested is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self._requested = signal.Signals(number).name
        logger.info(
            "%s: this run saves and ends; Ctrl-C ends it at once, without saving", self._requested
        )
        if self._abandons:
            raise StopRequestedError(self._requested)
