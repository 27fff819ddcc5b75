"""``python -m router_r1.evaluation.report [--watch] [FOLDER]``.

What writes and what serves is imported when it is asked for: it takes seconds.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from verl.utils.command import run_as_command

logger = logging.getLogger(__name__)

DEFAULT_EVALUATION = Path("outputs/quickstart/eval")
DEFAULT_RUN = Path("outputs/quickstart")


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
        default=8321,
        help="of that page, on 127.0.0.1; 0 takes a free one (default: %(default)s)",
    )
    return parser


def main(arguments: list[str]) -> None:
    """Writes the report and says where, or follows a run until it is stopped."""
    parsed = report_parser().parse_args(arguments)
    if parsed.watch:
        import asyncio

        from router_r1.evaluation.watch.server import watch

        asyncio.run(watch(parsed.folder or DEFAULT_RUN, parsed.port))
    else:
        from router_r1.evaluation.report.page import write_report

        path = write_report(parsed.folder or DEFAULT_EVALUATION, parsed.run_folder)
        logger.info("report: %s (%.1f MB)", path, path.stat().st_size / 1e6)


if __name__ == "__main__":
    run_as_command(main)
