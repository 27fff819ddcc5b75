"""Records of an evaluation."""

from __future__ import annotations

import pytest

from router_r1.evaluation.frames import RoutedRecord
from router_r1.pool.config import PoolConfig
from router_r1.world.simulated_llm import World
from tests.world_records import world_records


@pytest.fixture(scope="session")
def records(world: World, embedded_pool: PoolConfig) -> list[RoutedRecord]:
    return world_records(world, embedded_pool, 2600, cost_coe=0.3)
