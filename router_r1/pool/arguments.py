"""The command line of ``python -m router_r1.pool``."""

from __future__ import annotations

import argparse
from pathlib import Path


def pool_parser(prog: str = "python -m router_r1.pool") -> argparse.ArgumentParser:
    """The subcommands and their arguments; ``prog`` is the command's name in its help."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Checks a pool, drafts its descriptors, exports its recordings."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "check", help="validate a pool file and ask each LLM one tiny question"
    )
    check.add_argument("--no_calls", action="store_true", help="ask no LLM, spend nothing")
    describe = commands.add_parser(
        "describe", help="let a strong LLM draft the descriptor of each LLM"
    )
    describe.add_argument("--writer", help="LLM of the pool that writes (default: the dearest)")
    describe.add_argument(
        "--output", type=Path, required=True, help="gets the pool file with the drafts"
    )
    for command in (check, describe):
        command.add_argument("pool", help="name under configs/pool, or path of a YAML file")
        command.add_argument("--api_base", help="instead of the pool's endpoint")
    export = commands.add_parser("export", help="write a recording as parquet")
    export.add_argument("recording", type=Path, help="the SQLite file")
    export.add_argument("output", type=Path, help="the parquet file")
    return parser
