"""How a stage says that it cannot run, or that a figure is wrong."""

from __future__ import annotations


class StageError(Exception):
    """The message is the stage's line in the table."""


def require(holds: bool, message: str) -> None:
    """Raises :class:`StageError` with ``message`` unless ``holds``."""
    if not holds:
        raise StageError(message)
