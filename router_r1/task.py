"""The routing task: agent, reward and surroundings of router training."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from router_r1.config import RouterConfig
from router_r1.data_row import check_routing_row
from router_r1.evaluation.report import write_report
from router_r1.evaluation.results import print_results
from router_r1.forecast import forecast_lines, spending_totals
from router_r1.llm_agent.generation import GenerationLimits, LLMGenerationManager
from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.client import PoolClient, check_endpoints
from router_r1.pool.config import PoolConfig
from router_r1.pool.readiness import pool_lines
from router_r1.reward.manager import RoutingRewardFunction
from router_r1.summary import write_summary
from router_r1.tags import Tags
from router_r1.world.cold_start.policy import policy_config, world_tokenizer
from router_r1.world.cold_start.training import ensure_cold_start
from router_r1.world.dataset import write_world
from router_r1.world.simulated_llm import World
from router_r1.world.simulated_pool import simulated_pool
from verl.config.alarms import AlarmRule
from verl.interfaces import GenerationEngine
from verl.task import Task, TrainingReport
from verl.trainer.check.plan import PlannedRun
from verl.trainer.ppo.totals import RunningTotal
from verl.utils.checklist import CheckLine
from verl.utils.console import console
from verl.utils.rows import Messages, Row, question

logger = logging.getLogger(__name__)


class RoutingTask(Task):
    """Trains a router over a pool.

    Args:
        config: validated.
    """

    config_class = RouterConfig
    record_class = RoutedTrajectory

    def __init__(self, config: RouterConfig) -> None:
        super().__init__(config)
        self._manager: LLMGenerationManager | None = None
        self._pool: PoolConfig = config.pool
        if config.api_base:
            self._pool = replace(config.pool, api_base=config.api_base)
        self._tags = Tags(config.route_tag)
        self._template: str | None = None
        self.cold_start_seconds = 0.0

    def check(self) -> None:
        """Asks the pool's endpoints, and writes the embedded world's parquet files.

        Raises:
            PoolUnreachableError: if an endpoint does not answer.
        """
        if not self._starts_pool:
            asyncio.run(check_endpoints(self._pool, self.config.api_key))
        self.write_missing_data()

    def write_missing_data(self) -> None:
        """The embedded world's parquet files."""
        config = self.config
        if config.world is not None:
            write_world(World(config.world), self._pool, Path(config.world.folder), self._tags)

    def check_lines(self, run: PlannedRun) -> list[CheckLine]:
        """Endpoints and keys of the pool; calls and dollars."""
        return [*pool_lines(self._pool, self.config.api_key), *self.forecast_lines(run)]

    def forecast_lines(self, run: PlannedRun) -> list[CheckLine]:
        """Calls and dollars."""
        return forecast_lines(self.config, self._pool, run)

    @property
    def _starts_pool(self) -> bool:
        return self._pool.simulated and self._pool.api_base is None

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Starts the embedded world's pool, and closes what is open in the end."""
        config = self.config
        try:
            if not self._starts_pool:
                yield
                return
            assert config.world is not None
            with simulated_pool(self._pool, config.world, config.world.time_scale) as url:
                self._pool = replace(self._pool, api_base=url)
                yield
        finally:
            if self._manager is not None:
                self._manager.close()

    def make_first_policy(self) -> None:
        """The embedded world's cold start."""
        config = self.config
        if config.cold_start is None:
            return
        assert config.world is not None
        start = time.monotonic()
        ensure_cold_start(config.cold_start, config.world, self._pool, config.trainer, self._tags)
        self.cold_start_seconds = time.monotonic() - start

    def first_policy_config(self) -> Any | None:
        """The tiny policy's, where the cold start makes it."""
        config = self.config
        made_here = config.cold_start and (
            config.actor_rollout_ref.model.path == config.cold_start.folder
        )
        if not made_here:
            return None
        tokenizer = world_tokenizer(World(config.world), self._pool, self._tags)
        return policy_config(tokenizer, config.cold_start.policy)

    def messages(self, row: Row) -> Messages:
        """The prompt of this run's pool where the row holds its question, else the file's."""
        style = self.config.prompt_style
        asked = question(row)
        if style is None or asked is None:
            return super().messages(row)
        if self._template is None:
            self._template = build_prompt_template(style, self._pool, self._tags)
        return [{"role": "user", "content": fill(self._template, asked)}]

    def check_row(self, row: Row) -> None:
        """Refuses rows that no answer could be right for, and domains that are no list."""
        check_routing_row(row, self.config.reward.normalization)

    def build_rollout_source(
        self, engine: GenerationEngine, tokenizer: Any
    ) -> LLMGenerationManager:
        """The routing loop."""
        data = self.config.data
        limits = GenerationLimits(
            max_turns=self.config.max_turns,
            max_response_length=data.max_response_length,
            max_prompt_length=data.max_prompt_length,
            max_obs_length=data.max_obs_length,
        )
        self._manager = LLMGenerationManager(
            engine,
            tokenizer,
            self._pool,
            limits,
            self.config.api_key,
            data.apply_chat_template_kwargs,
            self._tags,
        )
        return self._manager

    def build_reward_function(self) -> RoutingRewardFunction:
        """The hierarchical reward."""
        config = self.config
        return RoutingRewardFunction(
            config.reward, self._pool, config.reward_metric, config.cost_coe
        )

    def stop_reason(self) -> str | None:
        """The spending limit, once it has refused a call; or a pool that cannot be reached."""
        unreachable = self._client.health.end_rollout()
        budget = self._client.budget
        if not budget.exhausted:
            return unreachable
        return (
            f"pool.budget_usd={budget.limit_usd} is used up: ${budget.spent_usd:.6f} are spent and "
            "the next call may cost more than what is left"
        )

    def describe_failures(self) -> str:
        """The LLMs whose calls failed, with their share."""
        return self._client.ledger.describe_failures()

    def alarm_rules(self) -> tuple[AlarmRule, ...]:
        """Formats that fail, and a policy that stops calling or calls without end."""
        return (
            AlarmRule(
                "reward/format_failure",
                above=0.3,
                rises_to=1.5,
                advice="the policy loses the tags; look at validation/*.jsonl, lower the actor's "
                "lr or raise the KL's coefficient",
            ),
            AlarmRule(
                "reward/route_cnt",
                falls_to=0.3,
                rises_to=2.5,
                advice="calls per question: the policy answers without the pool, or asks on and "
                "on; look at cost_coe and at validation/*.jsonl",
            ),
        )

    def running_totals(self) -> tuple[RunningTotal, ...]:
        """What the calls have cost; nothing for a pool that costs nothing."""
        return spending_totals(self._pool)

    def collect_metrics(self) -> dict[str, float]:
        """``pool/*``: how calls ended, and what was spent."""
        client = self._client
        return client.ledger.collect_metrics() | client.health.collect_metrics()

    @property
    def _client(self) -> PoolClient:
        assert self._manager is not None
        return self._manager.client

    def evaluation_facts(self) -> dict[str, Any]:
        """The pool, and what the reward weighs."""
        config = self.config
        return {
            "pool": self._pool.name,
            "reward_metric": config.reward_metric,
            "cost_coe": config.cost_coe,
            "normalization": config.reward.normalization,
        }

    def report_evaluation(self, folder: Path) -> None:
        """The table on the terminal, and the page."""
        print_results(folder)
        page = write_report(folder, Path(self.config.trainer.default_local_dir))
        console.print(f"report: {page}", highlight=False)

    def finish(self, report: TrainingReport) -> None:
        """Writes ``summary.json`` and shows the end tables."""
        write_summary(report, self.config, self.cold_start_seconds, self._client.ledger)
