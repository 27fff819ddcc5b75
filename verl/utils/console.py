"""What the terminal shows: log lines, a progress bar, one line a step."""

from __future__ import annotations

import logging
import sys
import sysconfig
import warnings

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_PIPE_WIDTH = 120
_STDLIB = sysconfig.get_path("stdlib")

console = Console()
if not console.is_terminal:
    console = Console(width=_PIPE_WIDTH)


class _OwnOrWarning(logging.Filter):
    """Lets our own lines through, and what libraries say from WARNING on: code that is installed
    into ``site-packages`` is a library."""

    def filter(self, record: logging.LogRecord) -> bool:
        library = "site-packages" in record.pathname or record.pathname.startswith(_STDLIB)
        own = record.name.startswith("verl") or not library
        return own or record.levelno >= logging.WARNING


def set_up_logging() -> None:
    """Readable log lines that do not tear the progress bar, whatever the locale can show."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # characters that the locale lacks end no command
            stream.reconfigure(errors="replace")
    handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
    handler.setFormatter(logging.Formatter("%(message)s", datefmt="%H:%M:%S"))
    handler.addFilter(_OwnOrWarning())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in ("httpx", "httpx2"):  # a line for every call, which the filter would drop
        logging.getLogger(chatty).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning)


def show_error(error: Exception) -> None:
    """A user's mistake in one line, without traceback."""
    console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)


def progress_bar() -> Progress:
    """A bar with the count, elapsed and remaining time; only drawn on a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
