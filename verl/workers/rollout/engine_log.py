"""Why an engine failed, where its exception only says that another process logged the cause."""

from __future__ import annotations

import os
import re
from pathlib import Path

# vLLM's processes log exceptions line by line: (Worker pid=7) ERROR 11-26 … [core.py:9] Kind: text
_LOGGED_EXCEPTION = re.compile(r".*ERROR .*?\] +((?:\w+\.)*\w*(?:Error|Exception|Interrupt): .*)")
# "See root cause above", "See stack trace (above) for the root cause".
_POINTS_ELSEWHERE = "above"
_READ_BYTES = 2**20


def account_of(error: Exception, log: Path | None = None) -> str:
    """What failed and where more is written, in one line.

    Args:
        error: as it arrived in this process.
        log: of this process and its children, beside that of their errors (.err); by default the
            file that standard output goes to.
    """
    log = log or _standard_output()
    text = str(error).strip().partition("\n")[0]
    account = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if log is None:
        return account
    if _POINTS_ELSEWHERE in text:
        account = _first_logged_exception(log) or account
    return f"{account} (more in {log} and {log.with_suffix('.err').name})"


def _first_logged_exception(log: Path) -> str | None:
    """The one that the others in the last MiB of an engine's log follow from; None without any."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _READ_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    found = (_LOGGED_EXCEPTION.match(line) for line in lines)
    return next((match[1] for match in found if match), None)


def _standard_output() -> Path | None:
    """A Ray actor's is a file; a terminal or a pipe holds nothing to read."""
    try:
        path = Path(os.readlink("/proc/self/fd/1"))
    except OSError:
        return None
    return path if path.is_file() else None
