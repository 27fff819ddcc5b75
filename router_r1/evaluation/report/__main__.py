"""``python -m router_r1.evaluation.report [--watch] [FOLDER]``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from verl.errors import UserError
from verl.utils.console import set_up_logging, show_error

logger = logging.getLogger(__name__)

DEFAULT_EVALUATION = Path("outputs/quickstart/eval")
DEFAULT_RUN = Path("outputs/quickstart")
_PORT = 8321


def report_parser(prog: str = "python -m router_r1.evaluation.report") -> argparse.ArgumentParser:
    """Its arguments; ``prog`` is the command's name in its help."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Writes FOLDER/report.html from an evaluation or from a training run's "
        "validations, or follows a run while it trains.",
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        help="of an evaluation (what test.sh wrote) or of a training run; default: "
        f"{DEFAULT_EVALUATION}, with --watch {DEFAULT_RUN}",
    )
    parser.add_argument(
        "--run_folder",
        type=Path,
        help="training run whose metrics.jsonl an evaluation's report shows (default: the parent)",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="serve a page that follows the run, also one that has not begun; Ctrl-C stops",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=_PORT,
        help="of that page, on 127.0.0.1; 0 takes a free one (default: %(default)s)",
    )
    return parser


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
