"""The pool of the embedded world, hosted by a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from router_r1.pool.config import PoolConfig
from router_r1.pool.hosted.process import hosted_pool
from router_r1.world.config import WorldConfig
from router_r1.world.llms import find_llms
from router_r1.world.simulated_llm import World


def world_source(llms: Sequence[str], **settings: int) -> World:
    """What the hosting process replies from: ``settings`` are fields of :class:`WorldConfig`."""
    return World(WorldConfig(**settings), llms)


@contextmanager
def reachable_pool(
    pool: PoolConfig, world: WorldConfig | None = None, time_scale: float = 1.0
) -> Iterator[PoolConfig]:
    """The pool itself, or, if it is simulated and has no endpoint, with that of its own server,
    which runs while the block does.

    Args:
        world: of the server; None for the default one.
        time_scale: factor on the simulated latencies; 0 answers at once.

    Raises:
        ConfigError: if the pool has an LLM that no simulated one is named like.
        RuntimeError: if the server does not start.
    """
    if not pool.needs_server:
        yield pool
        return
    world = world or WorldConfig()
    # Of a world's settings, those that replies depend on.
    settings = {name: getattr(world, name) for name in ("seed", "train_entities", "eval_entities")}
    settings["llms"] = list(find_llms(pool.simulated_names))
    with hosted_pool(pool, f"{__name__}:world_source", settings, time_scale) as url:
        yield replace(pool, api_base=url)
