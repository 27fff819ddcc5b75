"""The routing task: what the framework trains when it trains a router."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from router_r1.config import RouterConfig
from router_r1.data_row import check_routing_row, question
from router_r1.llm_agent.generation import GenerationLimits, LLMGenerationManager
from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.reports import RoutingReports
from router_r1.reward.cost import RewardScales
from router_r1.reward.manager import RoutingRewardFunction
from router_r1.surroundings import RoutingSurroundings
from verl.columns import REWARD, Column
from verl.interfaces import GenerationEngine
from verl.task import Task
from verl.utils.rows import Messages, Row


class RoutingTask(Task):
    """Trains a router over a pool; raises a :class:`ConfigError` if the reward's function
    is not there."""

    config_class = RouterConfig
    record_class = RoutedTrajectory
    columns = (
        Column("em", "EM", validation="EM", step_metric="reward/em", repeated=True),
        Column("f1", "F1", validation="F1"),
        Column("cost", "cost", "cost", step_metric="critic/cost/mean", form="{:6.2f}"),
        REWARD,
        Column(
            "route_cnt",
            "calls",
            validation="route_cnt",
            step_metric="env/number_of_valid_route",
            form="{:.2f}",
        ),
    )
    agent_metrics: ClassVar = {
        "env/finish_ratio": "finished",
        "env/number_of_valid_action": "valid_actions",
        "env/number_of_valid_route": "routed_calls",
        "env/number_of_failed_calls": "failed_calls",
        "env/dollars": "dollars",
    }
    free_config_keys = (
        "api_base",
        "api_key",
        "pool.api_base",
        "pool.api_key_env",
        "pool.breaker_cooldown_s",
        "pool.breaker_failures",
        "pool.budget_usd",
        "pool.health",
        "pool.max_retries",
        "pool.queue_timeout_s",
        "pool.recording",
        "pool.request_timeout_s",
        "pool.retry_backoff_s",
        "pool.share_equal_calls",
        "world.time_scale",
    )

    def __init__(self, config: RouterConfig) -> None:
        super().__init__(config)
        config.reward.find_function()  # before anything starts
        self._surroundings = RoutingSurroundings(config)
        self._reward: RoutingRewardFunction | None = None
        self._preference = config.cost_preference
        self._offers = config.offers

    def agent(self, engine: GenerationEngine, tokenizer: Any) -> LLMGenerationManager:
        """The routing loop."""
        config, data = self.config, self.config.data
        limits = GenerationLimits(
            max_turns=config.max_turns,
            max_response_length=data.max_response_length,
            max_prompt_length=data.max_prompt_length,
            max_obs_length=data.max_obs_length,
            question=config.question_limit,
        )
        agent = LLMGenerationManager(
            engine,
            tokenizer,
            self._surroundings.pool,
            limits,
            config.api_key,
            data.apply_chat_template_kwargs,
            config.tags,
            self._preference if config.state_cost_coe else None,
            self._offers,
        )
        self._surroundings.agent = agent
        return agent

    def reward(self) -> RoutingRewardFunction:
        """Format, outcome, cost and latency, joined."""
        config = self.config
        self._reward = RoutingRewardFunction(
            config.reward, self._surroundings.pool, config.reward_metric, self._preference.least
        )
        return self._reward

    def messages(self, row: Row) -> Messages:
        """The prompt of this run's pool where the row holds its question, else the file's."""
        asked = question(row)
        if self.config.prompt_style is None or asked is None:
            return super().messages(row)
        if self._offers is None:
            template = self._template
        else:
            template = self._template_of(self._offers.of_row(row).pool)
        weight = self._preference.of_row(row) if self.config.state_cost_coe else None
        return [{"role": "user", "content": fill(template, asked, weight)}]

    @cached_property
    def _template(self) -> str:
        return self._template_of(self._surroundings.pool)

    def _template_of(self, pool: PoolConfig) -> str:
        config = self.config
        return build_prompt_template(
            config.prompt_style,
            pool,
            config.tags,
            config.state_cost_coe,
            config.state_prices,
            config.question_limit,
        )

    def check_row(self, row: Row) -> None:
        """Refuses rows that no answer could be right for, and domains that are no list."""
        config = self.config
        most = 1.0 - config.reward.latency_coe if config.state_cost_coe else None
        check_routing_row(row, config.reward.normalization, config.questions_differ, most)

    def surroundings(self) -> RoutingSurroundings:
        """The pool, and what the embedded world brings."""
        return self._surroundings

    def reports(self) -> RoutingReports:
        """Spending, alarms, end tables, the page."""
        return RoutingReports(self.config, self._surroundings, self._scales)

    def _scales(self) -> RewardScales:
        return self._reward.scales if self._reward is not None else RewardScales()
