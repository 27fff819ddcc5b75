"""What the terminal shows: log lines, a progress bar, one line a step."""

from __future__ import annotations

import logging
import warnings

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console()

_NOISY = ("httpx", "httpcore", "openai", "urllib3", "ray", "filelock", "matplotlib", "asyncio")


def set_up_logging() -> None:
    """Readable log lines that do not tear the progress bar; libraries speak from WARNING on."""
    handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
    handler.setFormatter(logging.Formatter("%(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning)


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
