"""Where and for whom to serve, and the command line that says so.

Importing it brings no torch: a command line is parsed before what takes seconds is imported.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
from dataclasses import dataclass, field

from router_r1.inference.arguments import add_router_arguments
from verl.config.validation import NOT_NEGATIVE, POSITIVE, Section
from verl.errors import UserError

KEY_VARIABLE = "ROUTER_R1_SERVE_KEY"
_EPILOG = f"""\
With no arguments: serves the newest trained model of outputs/. Open the address it prints in a
browser to ask it. Clients send the key in the environment variable {KEY_VARIABLE}; without one the
server listens on this machine only. The last user message of a conversation is the question.
"""


@dataclass(frozen=True)
class ServerConfig(Section, prefix="--"):
    """Where and for whom to serve, as the help of the command line says; clients must send
    ``api_key``, None asks for none."""

    host: str = "127.0.0.1"
    port: int = 8000
    model_name: str = "router-r1"
    api_key: str | None = None
    max_concurrency: int = field(default=64, metadata=POSITIVE)
    max_queue: int = field(default=256, metadata=NOT_NEGATIVE)
    shutdown_grace_s: float = field(default=30.0, metadata=POSITIVE)


def serving_parser(prog: str = "python -m router_r1.serve") -> argparse.ArgumentParser:
    """The arguments of serving; ``prog`` is the command's name in its help."""
    defaults = ServerConfig()
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serves a trained router: a chat page, and an OpenAI-compatible API.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    server = parser.add_argument_group("server")
    server.add_argument("--host", default=defaults.host)
    server.add_argument("--port", type=int, default=defaults.port, help="0 takes a free one")
    server.add_argument("--served_model_name", default=defaults.model_name)
    server.add_argument(
        "--max_concurrency",
        type=int,
        default=defaults.max_concurrency,
        help="trajectories under way at once",
    )
    server.add_argument(
        "--max_queue",
        type=int,
        default=defaults.max_queue,
        help="requests that may wait beside them; more are refused (429)",
    )
    server.add_argument(
        "--shutdown_grace_s",
        type=float,
        default=defaults.shutdown_grace_s,
        help="seconds that requests under way have to end",
    )
    add_router_arguments(parser)
    return parser


def server_config(namespace: argparse.Namespace) -> ServerConfig:
    """Checks the server's arguments: raises :class:`UserError` for a value out of range, or an open
    door, which is a host beyond loopback without key."""
    config = ServerConfig(
        host=namespace.host,
        port=namespace.port,
        model_name=namespace.served_model_name,
        api_key=os.environ.get(KEY_VARIABLE) or None,
        max_concurrency=namespace.max_concurrency,
        max_queue=namespace.max_queue,
        shutdown_grace_s=namespace.shutdown_grace_s,
    )
    if config.api_key is None and not _is_loopback(config.host):
        raise UserError(
            f"--host {config.host} is open to other machines and there is no key: set "
            f"{KEY_VARIABLE}, or serve on 127.0.0.1"
        )
    return config


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
