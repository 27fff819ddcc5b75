"""Paths for Arrow."""

from __future__ import annotations

import os
from pathlib import Path

from verl.errors import UserError


def arrow_path(path: Path) -> str:
    """The path as Arrow wants it, which encodes it as UTF-8 whatever the locale says; raises
    :class:`UserError` if its bytes are not UTF-8.

    Opening the file here in its place is no way out: Arrow's threads that read from a file or
    buffer of Python's may outlive the interpreter, which then aborts.
    """
    try:
        return os.fsencode(path).decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: Arrow takes only paths in UTF-8; rename the folder") from None
