"""``router-r1 pool``: checks a pool, drafts its descriptors, exports its recordings."""

from __future__ import annotations

import argparse
import asyncio
import pkgutil
from dataclasses import replace
from pathlib import Path

from verl.errors import UserError
from verl.utils.console import console, set_up_logging, show_error

# What plays a simulated pool; by name, since the world builds on the pool.
_REACHABLE = "router_r1.world.simulated_pool:reachable_pool"


def pool_parser(prog: str = "router-r1 pool") -> argparse.ArgumentParser:
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


def main(arguments: list[str] | None = None) -> int:
    """Runs a subcommand and returns its exit code."""
    set_up_logging()
    args = pool_parser().parse_args(arguments)
    # Only now what takes a second to import: the help is there at once.
    from router_r1.pool.check import check_pool
    from router_r1.pool.describe import draft_descriptors
    from router_r1.pool.loading import load_pool
    from router_r1.pool.recording import export_parquet

    try:
        if args.command == "export":
            count = export_parquet(args.recording, args.output)
            console.print(f"wrote {count} calls to {args.output}", highlight=False)
            return 0
        pool = load_pool(args.pool)
        if args.api_base:
            pool = replace(pool, api_base=args.api_base)
        with pkgutil.resolve_name(_REACHABLE)(pool) as reachable:
            if args.command == "check":
                return 0 if asyncio.run(check_pool(reachable, ask=not args.no_calls)) else 1
            asyncio.run(draft_descriptors(reachable, args.writer, args.output))
            return 0
    except UserError as error:
        show_error(error)
        return 2
