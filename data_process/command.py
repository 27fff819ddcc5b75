"""``router-r1 data``, and its kinds of files as scripts of their own.

Importing it brings none of the libraries that read and write the data, which take seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_process.preparation import DATASETS, PREPARATIONS, Preparation
from router_r1.tags import ROUTE_TAGS
from verl.errors import UserError
from verl.utils.console import set_up_logging, show_error


def data_parser(prog: str = "router-r1 data") -> argparse.ArgumentParser:
    """One subcommand for each kind of file; ``prog`` is the command's name in its help."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Writes the parquet files that training and scoring read, from QA datasets.",
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, preparation in PREPARATIONS.items():
        about = preparation.about
        _add_arguments(kinds.add_parser(kind, help=about, description=about), preparation)
    return parser


def main(arguments: Sequence[str]) -> None:
    """Parses and prepares.

    Raises:
        UserError: for sources or a pool that cannot be used.
    """
    parsed = data_parser().parse_args(arguments)
    from data_process.prepare import prepare

    prepare(PREPARATIONS[parsed.kind], parsed)


def run(kind: str, arguments: Sequence[str] | None = None) -> None:
    """A script's main: parses, prepares, reports; exits with 2 on a user's mistake."""
    preparation = PREPARATIONS[kind]
    parser = argparse.ArgumentParser(description=preparation.about)
    _add_arguments(parser, preparation)
    args = parser.parse_args(arguments)
    # Only now what takes seconds to import: the help is there at once.
    from data_process.prepare import prepare

    set_up_logging()
    try:
        prepare(preparation, args)
    except UserError as error:
        show_error(error)
        sys.exit(2)
    except OSError as error:  # a folder that cannot be made, a file that cannot be read
        words = error.strerror or str(error).partition("\n")[0]
        show_error(
            UserError(
                f"{error.filename2 or error.filename or args.local_dir}: {words}; choose another "
                "--local_dir or --source_dir"
            )
        )
        sys.exit(2)


def _add_arguments(parser: argparse.ArgumentParser, preparation: Preparation) -> None:
    parser.add_argument(
        "--data_sources",
        default=",".join(preparation.default_sources),
        help=f"comma list of: {', '.join(DATASETS)}",
    )
    parser.add_argument("--model", choices=("qwen", "llama"), default="qwen", help="prompt style")
    parser.add_argument("--local_dir", type=Path, default=Path("data/nq_search"), help="output")
    parser.add_argument(
        "--source_dir", type=Path, help="folder with <dataset>/<split>.jsonl instead of the hub"
    )
    parser.add_argument(
        "--num_samples", type=int, default=preparation.num_samples, help="rows per source"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--route_tag", choices=ROUTE_TAGS, default=ROUTE_TAGS[0], help="of a call, in the prompt"
    )
    parser.add_argument("--pool", default="paper", help="pool name or YAML path, for the prompt")
