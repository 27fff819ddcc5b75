"""What the tiny policy is taught for: the world, its pool, and what prompts of the run say.

Guarantees: what is taught reads like the run's own prompts: built by the same functions from the
same settings, with a weight of cost and LLMs drawn anew for each example where rows of the run draw
them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cached_property

from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.llm_agent.question_limit import QuestionLimit
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.offer import OfferConfig, OfferedPool, Offers
from router_r1.tags import DEFAULT_TAGS, Tags
from router_r1.world.config import WorldConfig
from router_r1.world.simulated_llm import World


@dataclass
class Setting:
    """Of a run on the embedded world; what the fields say is what they say in
    :class:`~router_r1.config.RouterConfig`."""

    pool: PoolConfig
    world: WorldConfig = field(default_factory=WorldConfig)
    route_tag: str = DEFAULT_TAGS.route
    state_cost_coe: bool = False
    state_prices: bool = False
    question_limit: QuestionLimit = field(default_factory=QuestionLimit)
    offer: OfferConfig | None = None

    @property
    def tags(self) -> Tags:
        """That the policy writes."""
        return Tags(self.route_tag)

    def make_world(self) -> World:
        """With the LLMs that the pool has of it."""
        return World(self.world, self.pool.simulated_names)

    @property
    def llm_names(self) -> list[str]:
        """That prompts may give LLMs: the pool's and the offers'."""
        drawn = self.offer.names if self.offer is not None else []
        return [*dict.fromkeys([*(llm.name for llm in self.pool.llms), *drawn])]

    @cached_property
    def _offers(self) -> Offers | None:
        return None if self.offer is None else Offers(self.offer, self.pool)

    @cached_property
    def template(self) -> str:
        """Of prompts that offer the whole pool."""
        return self._template_of(self.pool)

    def _template_of(self, pool: PoolConfig) -> str:
        return build_prompt_template(
            "compact",
            pool,
            self.tags,
            self.state_cost_coe,
            self.state_prices,
            self.question_limit,
        )

    def draw(self, rng: random.Random) -> Scene:
        """What one example's prompt says beside its question."""
        cost_coe = rng.randint(0, 10) / 10 if self.state_cost_coe else None
        if self._offers is None:
            whole = OfferedPool(self.pool, tuple(self.pool.llms))
            return Scene(whole, self.template, cost_coe)
        offered = self._offers.draw(rng)
        return Scene(offered, self._template_of(offered.pool), cost_coe)


@dataclass(frozen=True)
class Scene:
    """What a prompt says beside its question: the LLMs that are ``offered``, and what cost counts,
    None where it does not say that."""

    offered: OfferedPool
    template: str
    cost_coe: float | None

    @property
    def llms(self) -> list[LLMConfig]:
        """That are offered."""
        return self.offered.pool.offered

    def messages(self, question: str) -> list[dict[str, str]]:
        """That ask the question."""
        return [{"role": "user", "content": fill(self.template, question, self.cost_coe)}]

    def short_prompt(self, question: str) -> str:
        """What they say, without the list of LLMs."""
        _, _, rest = self.template.partition("\n")
        return fill(rest, question, self.cost_coe)
