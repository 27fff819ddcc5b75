"""``python -m router_r1.evaluation.report [EVAL_FOLDER]``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from router_r1.evaluation.report.arguments import report_parser
from verl.errors import UserError
from verl.utils.console import set_up_logging, show_error

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the report and says where; a user's mistake ends in one line and exit code 2."""
    parsed = report_parser().parse_args(arguments)
    # Only now what takes seconds to import: the help is there at once.
    from router_r1.evaluation.report.page import write_report

    set_up_logging()
    try:
        path = write_report(parsed.folder, parsed.run_folder)
    except UserError as error:
        show_error(error)
        sys.exit(2)
    logger.info("report: %s (%.1f MB)", path, path.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
