"""What can go wrong in a rollout engine."""

from __future__ import annotations

from verl.errors import UserError


class RolloutEngineError(UserError):
    """An engine failed to start, died, or refused a request."""


class EngineDeadError(RolloutEngineError):
    """The engine's process is gone; no request will succeed any more."""
