"""A circuit breaker: an LLM that keeps failing is left alone for a while.

Guarantees: after ``failures`` failed attempts in a row no attempt is admitted for ``cooldown_s``;
then one alone may try, and its result decides.
"""

from __future__ import annotations

import time


class CircuitBreaker:
    """Closed, open, or half open with one attempt under way."""

    def __init__(self, failures: int, cooldown_s: float) -> None:
        self._allowed_failures = failures
        self._cooldown_s = cooldown_s
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether no attempt may be made now."""
        if self._failures < self._allowed_failures:
            return False
        return self._probing or time.monotonic() < self._open_until

    def admits(self) -> bool:
        """Whether an attempt may be made now; its result must be told."""
        if self.is_open:
            return False
        self._probing = self._failures >= self._allowed_failures
        return True

    def succeeded(self) -> None:
        """Closes the breaker: an attempt got an answer."""
        self._failures = 0
        self._probing = False

    def failed(self) -> None:
        """Counts an attempt without an answer; opens the breaker once too many came in a row."""
        self._failures += 1
        self._probing = False
        if self._failures >= self._allowed_failures:
            self._open_until = time.monotonic() + self._cooldown_s

    def abandoned(self) -> None:
        """Ends an attempt that the caller gave up, which says nothing of the endpoint."""
        self._probing = False
