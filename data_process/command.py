"""``router-r1 data``: the three scripts of data_process as one command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from data_process import qa_test_gen, qa_test_merge, qa_train_merge
from data_process.script import add_arguments

SCRIPTS = {"train": qa_train_merge, "validation": qa_test_merge, "test": qa_test_gen}


def data_parser(prog: str = "router-r1 data") -> argparse.ArgumentParser:
    """One subcommand for each kind of file; ``prog`` is the command's name in its help."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Writes the parquet files that training and scoring read, from QA datasets.",
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, script in SCRIPTS.items():
        description = str(script.__doc__)
        added = kinds.add_parser(kind, help=description, description=description)
        add_arguments(added, script.PREPARATION)
    return parser


def main(arguments: Sequence[str]) -> None:
    """Parses and prepares.

    Raises:
        UserError: for sources or a pool that cannot be used.
    """
    parsed = data_parser().parse_args(arguments)
    from data_process.prepare import prepare

    prepare(SCRIPTS[parsed.kind].PREPARATION, parsed)
