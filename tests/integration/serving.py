"""A server around the session's router, and what its tests ask of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from router_r1.inference.router import Router, routing_agent
from router_r1.serve.app import RouterServer
from router_r1.serve.config import ServerConfig

KEY = "sk-key-of-the-server"
POOL_KEY = "sk-key-of-the-pool"


@contextmanager
def served(
    router: Router, api_key: str | None = KEY, **config: Any
) -> Iterator[tuple[RouterServer, str]]:
    """A server on a free port, and its base URL."""
    server = RouterServer(router, ServerConfig(port=0, api_key=api_key, **config))
    url = router.run(server.start())
    try:
        yield server, url
    finally:
        router.run(server.stop())


@contextmanager
def told(router: Router, cost_coe: float) -> Iterator[Router]:
    """Another router on the engine of one, whose prompts state what cost counts."""
    settings = replace(router.settings, cost_coe=cost_coe)
    tokenizer = router._manager._tokenizer
    manager = routing_agent(engine_of(router), tokenizer, settings)
    try:
        yield Router(settings, manager, tokenizer)
    finally:
        manager.close()


def engine_of(router: Router) -> Any:
    return router._manager._engine


async def idle_state(router: Router) -> tuple[int, int]:
    """Requests in the engine, and tasks on the router's loop beside this one."""
    core = engine_of(router)._replica._engine
    requests = await core._ask(lambda engine: engine.get_num_unfinished_requests())
    return requests, len(asyncio.all_tasks()) - 1


def until(condition: Callable[[], bool], patience_s: float = 10.0) -> bool:
    """Whether the condition comes true."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
