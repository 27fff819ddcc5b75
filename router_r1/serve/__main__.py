"""``python -m router_r1.serve``: serves a trained router until it is stopped."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import signal
import threading
from types import FrameType

from router_r1.inference.arguments import RouterArguments, add_router_arguments
from router_r1.inference.router import Router, open_router
from router_r1.inference.settings import resolve
from router_r1.serve.app import RouterServer, ServerConfig
from verl.config.validation import ConfigError, require_positive
from verl.errors import UserError
from verl.trainer.launch import run_as_command

logger = logging.getLogger(__name__)
KEY_VARIABLE = "ROUTER_R1_SERVE_KEY"
_EPILOG = f"""\
With no arguments: serves the newest trained model of outputs/. Open the address it prints in a
browser to ask it. Clients send the key in the environment variable {KEY_VARIABLE}; without one the
server listens on this machine only. The last user message of a conversation is the question.
"""


def main(arguments: list[str]) -> None:
    """Parses, starts the router, serves until SIGINT or SIGTERM."""
    namespace = _parser().parse_args(arguments)
    config = _server_config(namespace)
    settings = resolve(RouterArguments.from_namespace(namespace))
    signal.signal(signal.SIGTERM, _interrupt)
    with open_router(settings) as router:
        _serve(router, config)


def _parser() -> argparse.ArgumentParser:
    defaults = ServerConfig()
    parser = argparse.ArgumentParser(
        prog="python -m router_r1.serve",
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


def _server_config(namespace: argparse.Namespace) -> ServerConfig:
    """Checks the server's arguments.

    Raises:
        UserError: for a value out of range, or an open door: a host beyond loopback without key.
    """
    require_positive(
        **{
            "--max_concurrency": namespace.max_concurrency,
            "--shutdown_grace_s": namespace.shutdown_grace_s,
        }
    )
    if namespace.max_queue < 0:
        raise ConfigError(f"--max_queue must be >= 0, got {namespace.max_queue}")
    key = os.environ.get(KEY_VARIABLE) or None
    if key is None and not _is_loopback(namespace.host):
        raise UserError(
            f"--host {namespace.host} is open to other machines and there is no key: set "
            f"{KEY_VARIABLE}, or serve on 127.0.0.1"
        )
    return ServerConfig(
        host=namespace.host,
        port=namespace.port,
        model_name=namespace.served_model_name,
        api_key=key,
        max_concurrency=namespace.max_concurrency,
        max_queue=namespace.max_queue,
        shutdown_grace_s=namespace.shutdown_grace_s,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _serve(router: Router, config: ServerConfig) -> None:
    server = RouterServer(router, config)
    try:
        url = router.run(server.start())
    except OSError as error:
        raise UserError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror or error}"
        ) from error
    logger.info("serving %s on %s (Ctrl-C stops)", config.model_name, url)
    logger.info("to ask it in a browser: %s", url.removesuffix("v1"))
    if config.api_key is None:
        logger.info("no key is asked for: $%s is not set", KEY_VARIABLE)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        logger.info("stopping; Ctrl-C again does not wait for the requests under way")
    finally:
        router.run(server.stop())
    logger.info("stopped")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_as_command(main)
