"""``python -m router_r1.evaluation.report [--watch] [FOLDER]``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from router_r1.evaluation.report.arguments import DEFAULT_EVALUATION, DEFAULT_RUN, report_parser
from verl.errors import UserError
from verl.utils.console import set_up_logging, show_error

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the report and says where, or follows a run until it is stopped; a user's mistake ends
    in one line and exit code 2."""
    parsed = report_parser().parse_args(arguments)
    set_up_logging()
    try:
        if parsed.watch:
            _watch(parsed.folder or DEFAULT_RUN, parsed.port)
        else:
            _write(parsed.folder or DEFAULT_EVALUATION, parsed.run_folder)
    except UserError as error:
        show_error(error)
        sys.exit(2)


def _watch(folder: Path, port: int) -> None:
    from router_r1.evaluation.watch.server import watch  # takes seconds, which --help need not wait

    watch(folder, port)


def _write(folder: Path, run_folder: Path | None) -> None:
    from router_r1.evaluation.report.page import write_report  # as above

    path = write_report(folder, run_folder)
    logger.info("report: %s (%.1f MB)", path, path.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
