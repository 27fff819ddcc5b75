"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from router_r1.pool.config import PoolConfig
from router_r1.world.knowledge import WorldConfig
from router_r1.world.process import simulated_pool
from verl.config.ppo import RayConfig
from verl.trainer.launch import ray_cluster


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Real Ray, once for all tests."""
    with ray_cluster(RayConfig(num_cpus=4), num_ranks=2):
        yield


@pytest.fixture(scope="session")
def served_pool(embedded_pool: PoolConfig) -> Iterator[PoolConfig]:
    """The embedded pool behind its real HTTP server, answering without delay."""
    with simulated_pool(embedded_pool, WorldConfig(), time_scale=0.0) as url:
        yield replace(embedded_pool, api_base=url, request_timeout_s=2.0, retry_backoff_s=0.01)
