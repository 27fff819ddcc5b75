"""``python -m router_r1.serve``: serves a trained router until it is stopped."""

from __future__ import annotations

from router_r1.inference.arguments import RouterArguments
from router_r1.serve.config import server_config, serving_parser
from verl.utils.command import run_as_command


def main(arguments: list[str]) -> None:
    """Parses, starts the router, serves."""
    namespace = serving_parser().parse_args(arguments)
    config = server_config(namespace)
    router = RouterArguments.from_namespace(namespace)
    # Only now what takes seconds to import: the help is there at once.
    from router_r1.serve.command import serve

    serve(router, config)


if __name__ == "__main__":
    run_as_command(main)
