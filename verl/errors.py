"""Errors that a user can act on."""

from __future__ import annotations


class UserError(Exception):
    """A mistake or a failure whose message says all that a user needs; shown without traceback."""
