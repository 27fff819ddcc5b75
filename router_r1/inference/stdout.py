"""Keeps standard output for results.

Libraries and the processes they start print to it as they like; a result must not stand among that.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO


def claim_stdout() -> TextIO:
    """The real standard output; from here on, everything else that is printed goes to stderr,
    in this process and in those it starts."""
    sys.stdout.flush()
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return results


def abandon(results: TextIO) -> None:
    """Nobody reads any more (``| head``): what is still buffered must not fail at exit."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, results.fileno())
    os.close(silence)
