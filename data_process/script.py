"""The command line that the three scripts share, and how they run.

Importing it brings none of the libraries that read and write the data, which take seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_process.preparation import DATASETS, Preparation
from router_r1.tags import ROUTE_TAGS
from verl.errors import UserError
from verl.utils.console import set_up_logging, show_error


def run(preparation: Preparation, description: str, arguments: Sequence[str] | None = None) -> None:
    """A script's main: parses, prepares, reports; exits with 2 on a user's mistake."""
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser, preparation)
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


def add_arguments(parser: argparse.ArgumentParser, preparation: Preparation) -> None:
    """Declares the arguments of a script."""
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
