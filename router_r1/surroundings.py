"""What a router's rollouts need around them: the pool's endpoints, the embedded world's pool, data
and first policy.

Guarantees: what :meth:`RoutingSurroundings.running` starts is stopped, and the agent's connections
are closed, however the run ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from router_r1.config import RouterConfig
from router_r1.forecast import expected_work, forecast_lines
from router_r1.llm_agent.generation import LLMGenerationManager
from router_r1.pool.client import PoolClient, check_endpoints
from router_r1.pool.config import PoolConfig
from router_r1.pool.readiness import pool_lines
from router_r1.pool.tools.member import check_tools
from router_r1.world.dataset import write_world
from router_r1.world.simulated_llm import World
from router_r1.world.simulated_pool import reachable_pool
from verl.forecast import PlannedRun, Work
from verl.task import Surroundings
from verl.utils.checklist import CheckLine


class RoutingSurroundings(Surroundings):
    """Of a routing task: ``pool`` has the endpoint in force, ``agent`` is the routing loop once the
    task has made it, and the first policy took ``cold_start_seconds``."""

    def __init__(self, config: RouterConfig) -> None:
        self._config = config
        self.pool: PoolConfig = config.pool
        if config.api_base:
            self.pool = replace(config.pool, api_base=config.api_base)
        self.agent: LLMGenerationManager | None = None
        self.cold_start_seconds = 0.0

    @property
    def client(self) -> PoolClient:
        """The agent's: its ledger, health and budget."""
        assert self.agent is not None
        return self.agent.client

    def check(self) -> None:
        """Asks the pool's endpoints, and writes the embedded world's parquet files; raises
        ``PoolUnreachableError`` if an endpoint does not answer, ``DataError`` for the corpus of a
        tool that cannot be used."""
        check_tools(self.pool)
        if not self.pool.needs_server:
            asyncio.run(check_endpoints(self.pool, self._config.api_key))
        self.write_missing_data()

    def write_missing_data(self) -> None:
        """The embedded world's parquet files."""
        world = self._config.world
        if world is not None:
            write_world(World(world), self.pool, Path(world.folder), self._config.tags)

    def check_lines(self, run: PlannedRun) -> list[CheckLine]:
        """Endpoints and keys of the pool; calls and dollars."""
        return [*pool_lines(self.pool, self._config.api_key), *self.forecast_lines(run)]

    def forecast_lines(self, run: PlannedRun) -> list[CheckLine]:
        """Calls and dollars."""
        return forecast_lines(self._config, self.pool, run)

    def expected_work(self, trajectories: int) -> Work:
        """With the pool's limits."""
        return expected_work(self._config, self.pool, trajectories)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Starts the embedded world's pool, and closes what is open in the end."""
        world = self._config.world
        time_scale = world.time_scale if world is not None else 1.0
        try:
            with reachable_pool(self.pool, world, time_scale) as self.pool:
                yield
        finally:
            if self.agent is not None:
                self.agent.close()

    def make_first_policy(self) -> None:
        """The embedded world's cold start."""
        config = self._config
        if config.cold_start is None:
            return
        from router_r1.world.cold_start.training import ensure_cold_start

        start = time.monotonic()
        ensure_cold_start(config.cold_start, config.setting, config.trainer)
        self.cold_start_seconds = time.monotonic() - start

    def first_policy_config(self) -> Any | None:
        """The tiny policy's, where the cold start makes it."""
        cold_start = self._config.cold_start
        path = Path(self._config.actor_rollout_ref.model.path)
        if cold_start is None or path.resolve() != Path(cold_start.folder).resolve():
            return None
        from router_r1.world.cold_start.policy import policy_config, world_tokenizer

        tokenizer = world_tokenizer(self._config.setting, cold_start.words)
        return policy_config(tokenizer, cold_start.policy)

    def stop_reason(self) -> str | None:
        """The spending limit, once it has refused a call; or a pool that cannot be reached."""
        unreachable = self.client.health.end_rollout()
        budget = self.client.budget
        if not budget.exhausted:
            return unreachable
        return (
            f"pool.budget_usd={budget.limit_usd} is used up: ${budget.spent_usd:.6f} are spent and "
            "the next call may cost more than what is left"
        )

    def state_dict(self) -> dict[str, Any]:
        """The ledger."""
        return {"ledger": self.client.ledger.state_dict()}

    def load_state_dict(self, state: dict[str, Any], newest: dict[str, Any]) -> None:
        """The ledger as of the checkpoint; money spent since then counts in the budget as well."""
        ledger = self.client.ledger
        ledger.load_state_dict(state["ledger"], newest["ledger"])
        self.client.budget.spent_usd = ledger.spent_usd

    def describe_failures(self) -> str:
        """The LLMs whose calls failed, with their share."""
        return self.client.ledger.describe_failures()
