"""Serves the page that follows a run, to this machine alone.

Guarantees: it listens on 127.0.0.1 and answers only requests that name this machine, so that no
page of another site can read it; nothing in the run's folder is written or locked; whatever the
folder holds, every answer is a state.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from router_r1.evaluation.watch.page import build_page, describe
from router_r1.evaluation.watch.run_state import RunReader, RunState
from router_r1.web.page import HEADERS
from verl.errors import UserError

logger = logging.getLogger(__name__)
_HOST = "127.0.0.1"
_OWN_NAMES = ("127.0.0.1", "localhost")
_HEADERS = {**HEADERS, "Cache-Control": "no-store"}


class WatchServer:
    """The page and the state that it asks for again and again; ``port`` 0 takes a free one."""

    def __init__(self, folder: Path, port: int) -> None:
        self._reader = RunReader(folder)
        self._port = port
        self._page = build_page(folder.resolve().name)
        self._reading = asyncio.Lock()
        self._state: RunState | None = None
        self._described: dict[str, Any] = {}
        app = web.Application(middlewares=[_only_this_machine])
        app.router.add_get("/", self._show_page)
        app.router.add_get("/state", self._show_state)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> str:
        """Listens; the page's address.

        Raises:
            UserError: if the port is taken.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, _HOST, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise UserError(
                f"cannot listen on {_HOST}:{self._port}: {error.strerror or error}; choose another "
                "--port, or 0 for a free one"
            ) from error
        _, port = self._runner.addresses[0][:2]
        return f"http://{_HOST}:{port}/"

    async def stop(self) -> None:
        """Closes every connection."""
        await self._runner.cleanup()

    async def _show_page(self, _: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html", headers=_HEADERS)

    async def _show_state(self, request: web.Request) -> web.Response:
        """The state as JSON; 204 for the one that the page says it has."""
        async with self._reading:  # the reader keeps what it has parsed
            state = await asyncio.to_thread(self._reader.read)
            if state != self._state:  # drawing costs more than comparing
                self._described = await asyncio.to_thread(describe, state)
                self._state = state
            described = self._described
        if request.query.get("known") == described["version"]:
            return web.Response(status=204, headers=_HEADERS)
        text = json.dumps(described, allow_nan=False)
        return web.Response(text=text, content_type="application/json", headers=_HEADERS)


@web.middleware
async def _only_this_machine(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses a name that a foreign site could have pointed at 127.0.0.1."""
    if request.url.host not in _OWN_NAMES:
        raise web.HTTPForbidden(text="this page is served to this machine alone")
    return await handler(request)


async def watch(folder: Path, port: int) -> None:
    """Serves until SIGINT or SIGTERM.

    Raises:
        UserError: if the port is taken.
    """
    server = WatchServer(folder, port)
    url = await server.start()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    logger.info("following %s on %s (Ctrl-C stops)", folder, url)
    try:
        await stopped.wait()
    finally:
        await server.stop()
    logger.info("stopped")
