"""A trained router at work: started, asked, ended.

Guarantees: a question goes through training's own loop, prompt template and stop rules; leaving
:func:`open_router` ends every process that it started.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from router_r1.inference.settings import RouterSettings
from router_r1.llm_agent.generation import LLMGenerationManager
from router_r1.llm_agent.observer import TrajectoryObserver
from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.llm_agent.question import as_question
from router_r1.pool.client import check_endpoints
from router_r1.pool.config import PoolConfig
from router_r1.pool.tools.member import check_tools
from router_r1.preference import FIELD, CostPreference
from router_r1.world.simulated_pool import reachable_pool
from verl.errors import UserError
from verl.interfaces import GenerationEngine, RolloutOptions, RolloutRequest
from verl.trajectory import Trajectory
from verl.utils.chat_template import ChatTemplate
from verl.utils.dataset import load_tokenizer
from verl.utils.rows import Messages
from verl.workers.rollout.local import start_engine

logger = logging.getLogger(__name__)
T = TypeVar("T")
_LONGEST_WEIGHT = 0.25  # written with all its decimals


class QuestionTooLongError(UserError):
    """A question whose prompt is longer than the router accepts; prompts are never cut."""


class OnePreferenceError(UserError):
    """A weight of cost for a router that is not told any."""


class Router:
    """Answers questions by ``manager``, training's own loop."""

    def __init__(
        self,
        settings: RouterSettings,
        manager: LLMGenerationManager,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self.settings = settings
        self._manager = manager
        self._numbers = itertools.count(1)
        self._chat = ChatTemplate(tokenizer, settings.template_options)
        self._template = build_prompt_template(
            settings.prompt_style,
            settings.pool,
            settings.tags,
            settings.cost_coe is not None,
            settings.state_prices,
            settings.limits.question,
        )

    def request(self, question: str, cost_coe: float | None = None) -> RolloutRequest:
        """The rollout request of a question, numbered in the order of asking.

        The number is its identity for the seed: the same questions in the same order sample the
        same answers, and a question asked twice samples two. ``cost_coe`` is what cost counts for
        it, in [0, 1]; None takes the settings'.

        Raises:
            OnePreferenceError: for a weight of cost, if the router is not told any.
            QuestionTooLongError: if its prompt does not fit.
        """
        weight = self.settings.cost_coe if cost_coe is None else cost_coe
        if weight is not None and self.settings.cost_coe is None:
            raise OnePreferenceError(
                "this router was trained for one weight of cost and is not told another; train "
                "one with state_cost_coe=true"
            )
        length = self.prompt_length(question)
        limit = self.settings.max_start_length
        if length > limit:
            raise QuestionTooLongError(
                f"the question makes a prompt of {length} tokens, and at most {limit} are allowed"
            )
        row = {} if weight is None else {"extra_info": {FIELD: weight}}
        number = next(self._numbers)
        return RolloutRequest(f"question-{number}", self._messages(question, weight), row=row)

    def prompt_length(self, question: str) -> int:
        """Tokens of the prompt that a question makes, whatever cost counts."""
        return len(self._chat.render(self._messages(question, _LONGEST_WEIGHT)).token_ids)

    def _messages(self, question: str, cost_coe: float | None) -> Messages:
        text = fill(self._template, as_question(question), cost_coe)
        return [{"role": "user", "content": text}]

    async def answer(
        self,
        request: RolloutRequest,
        observer: TrajectoryObserver | None = None,
        options: RolloutOptions | None = None,
    ) -> Trajectory:
        """One trajectory; to be awaited in :meth:`run`. Cancelling it frees what it holds."""
        return await self._manager.run_one(request, options or self.settings.options, observer)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the router's event loop, and blocks until it ends."""
        return self._manager.run(coroutine)


@contextmanager
def open_router(settings: RouterSettings) -> Iterator[Router]:
    """Starts pool (if it is the embedded one) and engine, and ends them afterwards; raises
    :class:`UserError` if the pool does not answer, or a tool's corpus or the model cannot be used.
    """
    with ExitStack() as stack:
        pool, world = settings.pool, settings.world
        check_tools(pool)
        if not pool.needs_server:
            warn_without_key(pool, settings.api_key)
            asyncio.run(check_endpoints(pool, settings.api_key))
        pool = stack.enter_context(reachable_pool(pool, world, world.time_scale))
        settings = replace(settings, pool=pool)
        tokenizer = load_tokenizer(settings.model_path)
        logger.info("starting %s with %s", settings.engine, settings.model_path)
        engine = start_engine(
            settings.engine,
            settings.rollout,
            settings.model_path,
            settings.device,
            settings.limits.max_prompt_length,
            settings.seed,
        )
        manager = routing_agent(engine, tokenizer, settings)
        stack.callback(manager.close)
        stack.callback(lambda: manager.run(engine.close()))
        yield Router(settings, manager, tokenizer)


def routing_agent(
    engine: GenerationEngine, tokenizer: PreTrainedTokenizerBase, settings: RouterSettings
) -> LLMGenerationManager:
    """Training's loop, as the settings want it."""
    return LLMGenerationManager(
        engine,
        tokenizer,
        settings.pool,
        settings.limits,
        settings.api_key,
        settings.template_options,
        settings.tags,
        None if settings.cost_coe is None else CostPreference((settings.cost_coe,)),
    )


def warn_without_key(pool: PoolConfig, api_key: str | None) -> None:
    """Names the variables that may hold the pool's keys and do not."""
    for variable in sorted({pool.key_variable(llm) for llm in pool.llms} - {""}):
        if not api_key and not os.environ.get(variable):
            logger.warning("no key for pool %s: $%s is not set", pool.name, variable)
