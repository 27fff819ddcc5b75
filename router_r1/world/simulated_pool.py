"""The pool of the embedded world, hosted by a process of its own."""

from __future__ import annotations

from contextlib import AbstractContextManager

from router_r1.pool.config import PoolConfig
from router_r1.pool.hosted.process import hosted_pool
from router_r1.world.config import WorldConfig
from router_r1.world.simulated_llm import World


def world_source(**settings: int) -> World:
    """What the hosting process replies from: ``settings`` are fields of :class:`WorldConfig`."""
    return World(WorldConfig(**settings))


def simulated_pool(
    pool: PoolConfig, world: WorldConfig, time_scale: float = 1.0, port: int = 0
) -> AbstractContextManager[str]:
    """Starts the pool's server, yields its base URL, ends it; see :func:`hosted_pool`."""
    settings = {
        "seed": world.seed,
        "train_entities": world.train_entities,
        "eval_entities": world.eval_entities,
    }
    return hosted_pool(pool, f"{__name__}:world_source", settings, time_scale, port)
