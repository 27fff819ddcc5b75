"""``python -m router_r1.evaluation.report [--watch] [FOLDER]``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from router_r1.evaluation.report import write_report
from router_r1.evaluation.watch.server import DEFAULT_PORT, watch
from verl.errors import UserError
from verl.utils.console import set_up_logging, show_error

_DEFAULT_EVALUATION = Path("outputs/quickstart/eval")
_DEFAULT_RUN = Path("outputs/quickstart")

logger = logging.getLogger(__name__)


def main() -> None:
    """Writes the report and says where, or follows a run until it is stopped; a user's mistake ends
    in one line and exit code 2."""
    arguments = _parser().parse_args()
    set_up_logging()
    try:
        if arguments.watch:
            watch(arguments.folder or _DEFAULT_RUN, arguments.port)
            return
        path = write_report(arguments.folder or _DEFAULT_EVALUATION, arguments.run_folder)
    except UserError as error:
        show_error(error)
        sys.exit(2)
    logger.info("report: %s (%.1f MB)", path, path.stat().st_size / 1e6)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m router_r1.evaluation.report",
        description="Writes FOLDER/report.html from an evaluation or from a training run's "
        "validations, or follows a run while it trains.",
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        help="of an evaluation (what test.sh wrote) or of a training run; default: "
        f"{_DEFAULT_EVALUATION}, with --watch {_DEFAULT_RUN}",
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
        default=DEFAULT_PORT,
        help="of that page, on 127.0.0.1; 0 takes a free one (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    main()
