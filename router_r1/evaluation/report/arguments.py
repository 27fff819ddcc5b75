"""The command line of ``python -m router_r1.evaluation.report``."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_EVALUATION = Path("outputs/quickstart/eval")
DEFAULT_RUN = Path("outputs/quickstart")
DEFAULT_PORT = 8321


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
        default=DEFAULT_PORT,
        help="of that page, on 127.0.0.1; 0 takes a free one (default: %(default)s)",
    )
    return parser
