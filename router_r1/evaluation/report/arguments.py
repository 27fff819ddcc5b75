"""The command line of ``python -m router_r1.evaluation.report``."""

from __future__ import annotations

import argparse
from pathlib import Path

_DEFAULT_FOLDER = Path("outputs/quickstart/eval")


def report_parser(prog: str = "python -m router_r1.evaluation.report") -> argparse.ArgumentParser:
    """Its arguments; ``prog`` is the command's name in its help."""
    parser = argparse.ArgumentParser(
        prog=prog,
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
    return parser
