"""``python -m router_r1.world.serve``: the embedded world's LLMs as an HTTP server."""

from __future__ import annotations

import argparse
import asyncio

from router_r1.pool.server import SimulatedPoolServer, serve
from router_r1.world.config import WorldConfig
from router_r1.world.simulated_llm import World


def main() -> None:
    """Parses the command line and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world-seed", type=int, default=WorldConfig.seed)
    parser.add_argument("--train-entities", type=int, default=WorldConfig.train_entities)
    parser.add_argument("--eval-entities", type=int, default=WorldConfig.eval_entities)
    parser.add_argument("--models", nargs="+", required=True, help="API-MODEL=LLM-NAME …")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ready-file", required=True, help="gets the base URL when ready")
    parser.add_argument("--time-scale", type=float, default=1.0, help="factor on latencies")
    args = parser.parse_args()
    world = World(
        WorldConfig(
            seed=args.world_seed,
            train_entities=args.train_entities,
            eval_entities=args.eval_entities,
        )
    )
    models = dict(pair.split("=", 1) for pair in args.models)
    server = SimulatedPoolServer(world, models, args.time_scale)
    asyncio.run(serve(server, args.host, args.port, args.ready_file))


if __name__ == "__main__":
    main()
