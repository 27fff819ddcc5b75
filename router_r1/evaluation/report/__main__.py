"""``python -m router_r1.evaluation.report [EVAL_FOLDER]``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from router_r1.evaluation.report import write_report
from verl.errors import UserError
from verl.utils.console import set_up_logging, show_error

_DEFAULT_FOLDER = Path("outputs/quickstart/eval")

logger = logging.getLogger(__name__)


def main() -> None:
    """Writes the report and says where; a user's mistake ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m router_r1.evaluation.report",
        description="Writes EVAL_FOLDER/report.html from what an evaluation left there.",
    )
    parser.add_argument(
        "folder",
        metavar="EVAL_FOLDER",
        nargs="?",
        type=Path,
        default=_DEFAULT_FOLDER,
        help="what test.sh wrote (default: %(default)s)",
    )
    parser.add_argument(
        "--run_folder", type=Path, help="training run with metrics.jsonl (default: the parent)"
    )
    arguments = parser.parse_args()
    set_up_logging()
    try:
        path = write_report(arguments.folder, arguments.run_folder)
    except UserError as error:
        show_error(error)
        sys.exit(2)
    logger.info("report: %s (%.1f MB)", path, path.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
