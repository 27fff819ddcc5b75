"""``python -m router_r1.pool``: checks a pool, drafts its descriptors, exports its recordings."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from router_r1.pool.arguments import pool_parser
from router_r1.pool.config import PoolConfig
from verl.errors import UserError
from verl.utils.console import console, set_up_logging, show_error


def main(arguments: list[str] | None = None) -> int:
    """Runs a subcommand; the exit code."""
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
        with _reachable(pool) as reachable:
            if args.command == "check":
                return 0 if asyncio.run(check_pool(reachable, ask=not args.no_calls)) else 1
            asyncio.run(draft_descriptors(reachable, args.writer, args.output))
            return 0
    except UserError as error:
        show_error(error)
        return 2


@contextmanager
def _reachable(pool: PoolConfig) -> Iterator[PoolConfig]:
    """The pool itself, or, if it is simulated, with the server that simulates it."""
    if not pool.simulated or pool.api_base:
        yield pool
        return
    from router_r1.world.config import WorldConfig
    from router_r1.world.process import simulated_pool

    with simulated_pool(pool, WorldConfig()) as url:
        yield replace(pool, api_base=url)


if __name__ == "__main__":
    sys.exit(main())
