"""Serves a trained router until it is stopped."""

from __future__ import annotations

import logging
import signal
import threading

from router_r1.inference.arguments import RouterArguments
from router_r1.inference.router import open_router
from router_r1.inference.settings import resolve
from router_r1.serve.app import RouterServer
from router_r1.serve.config import KEY_VARIABLE, ServerConfig
from verl.errors import UserError

logger = logging.getLogger(__name__)


def serve(arguments: RouterArguments, config: ServerConfig) -> None:
    """Starts the router, and serves until SIGINT or SIGTERM."""
    settings = resolve(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as SIGINT: KeyboardInterrupt
    with open_router(settings) as router:
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
