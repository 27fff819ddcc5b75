"""Root config of router training: PPO's, and what routing adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from router_r1.llm_agent.prompt import STYLES
from router_r1.llm_agent.question_limit import QuestionLimit
from router_r1.pool.config import PoolConfig
from router_r1.pool.dollars import show_dollars
from router_r1.pool.offer import OfferConfig, Offers
from router_r1.preference import CostPreference
from router_r1.reward.manager import RewardConfig
from router_r1.tags import ROUTE_TAGS, Tags
from router_r1.world.cold_start.setting import Setting
from router_r1.world.config import ColdStartConfig, EmbeddedWorldConfig
from router_r1.world.llms import find_llms
from verl.config.ppo import PPOConfig
from verl.config.validation import POSITIVE, ConfigError, one_of, require_ranges


@dataclass
class RouterConfig(PPOConfig):
    """Everything ``configs/ppo_trainer.yaml`` may hold.

    Attributes:
        max_turns: turns with routing per trajectory.
        prompt_style: prompts are written anew from each row's question and the pool, in this
            style; null takes those of the data files.
        route_tag: name of the tag with which the policy asks an LLM, "search" or "route".
        reward_metric: "em" or "f1": the outcome, unless ``reward.function`` gives it.
        cost_coe: weight of the cost reward, in [0, 1]; a list of weights, or a range as "0..0.9",
            of which each row draws its own (:class:`~router_r1.preference.CostPreference`).
        state_cost_coe: the prompt says the weight of its question, and the router may be asked with
            any.
        state_prices: the prompt says what each LLM costs and, where the pool's file has it, how
            long it takes.
        question_limit: what the calls of one question may come to; the prompt says it.
        offer: draws for each question which LLMs it is offered, in which order, under which names
            and at which prices; null offers every question the pool as it is.
        api_base: overrides the pool's endpoint.
        api_key: works, but is better left to the pool's environment variable; redacted.
        world: the embedded benchmark; set only by recipes that use it.
        cold_start: makes the policy before training; needs ``world``.
    """

    max_turns: int = field(default=4, metadata=POSITIVE)
    prompt_style: str | None = field(default="qwen", metadata=one_of(*STYLES))
    route_tag: str = field(default="search", metadata=one_of(*ROUTE_TAGS))
    reward_metric: str = field(default="em", metadata=one_of("em", "f1"))
    cost_coe: Any = 0.0
    state_cost_coe: bool = False
    state_prices: bool = False
    question_limit: QuestionLimit = field(default_factory=QuestionLimit)
    offer: OfferConfig | None = None
    api_base: str | None = None
    api_key: str | None = None
    pool: PoolConfig = MISSING
    reward: RewardConfig = field(default_factory=RewardConfig)
    world: EmbeddedWorldConfig | None = None
    cold_start: ColdStartConfig | None = None

    @property
    def tags(self) -> Tags:
        """That the policy writes."""
        return Tags(self.route_tag)

    @property
    def cost_preference(self) -> CostPreference:
        """What ``cost_coe`` means."""
        return CostPreference.read(self.cost_coe)

    @property
    def setting(self) -> Setting:
        """What the first policy is taught for; there must be a world."""
        assert self.world is not None
        return Setting(
            self.pool,
            self.world.size,
            self.route_tag,
            self.state_cost_coe,
            self.state_prices,
            self.question_limit,
            self.offer,
        )

    @property
    def offers(self) -> Offers | None:
        """What draws each question's LLMs; None where all are offered the same."""
        return None if self.offer is None else Offers(self.offer, self.pool)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ranges(self, "")
        self._check_cost_coe()
        self._check_prompts()
        if self.reward.cost_unit == "dollars" and not any(self.pool.prompt_prices().values()):
            raise ConfigError(
                f"reward.cost_unit=dollars counts prompt tokens, but no LLM of pool "
                f"{self.pool.name!r} has a prompt_price; set it in the pool's file, or keep "
                "reward.cost_unit=completion"
            )
        if self.cold_start is not None and self.world is None:
            raise ConfigError("cold_start makes a policy for the embedded world; set world too")
        told = self.state_cost_coe or self.offer is not None
        if self.cold_start is not None and self.cold_start.lean and not told:
            raise ConfigError(
                f"cold_start.lean={self.cold_start.lean:g} is for prompts that state what cost "
                "counts, or offer each question LLMs of its own; set state_cost_coe=true or offer, "
                "or leave it 0"
            )
        if self.pool.simulated and self.world is None and self.api_base is None:
            raise ConfigError(
                f"pool {self.pool.name!r} is simulated by the embedded world; set world (as "
                "recipe=quickstart does) or pass api_base"
            )
        if self.pool.simulated:
            find_llms(self.pool.simulated_names)

    def _check_cost_coe(self) -> None:
        preference = self.cost_preference
        if preference.values[-1] + self.reward.latency_coe > 1.0:
            raise ConfigError(
                f"cost_coe={self.cost_coe} and reward.latency_coe={self.reward.latency_coe} must "
                "not exceed 1 together; what is left of 1 is the weight of the answer"
            )
        if preference.single is None and not self.state_cost_coe:
            raise ConfigError(
                f"cost_coe={self.cost_coe} gives questions weights of their own, which the policy "
                "must be told: set state_cost_coe=true, or one number"
            )

    @property
    def most_calls(self) -> int:
        """That a trajectory can make."""
        return min(self.max_turns, self.question_limit.calls or self.max_turns)

    @property
    def questions_differ(self) -> bool:
        """Whether prompts hold more of their own than the question."""
        return (
            self.state_cost_coe
            or self.state_prices
            or self.question_limit.is_set
            or self.offer is not None
        )

    def _check_prompts(self) -> None:
        if self.offer is not None:
            Offers(self.offer, self.pool)  # refuses what the pool cannot give
            if self.offer.price_jitter and not self.state_prices:
                raise ConfigError(
                    f"offer.price_jitter={self.offer.price_jitter:g} gives each question prices of "
                    "its own, which the policy must be told: set state_prices=true, or leave it 0"
                )
        if self.question_limit.usd is not None:
            self._check_dollars(self.question_limit.usd)
        if self.questions_differ and self.prompt_style is None:
            raise ConfigError(
                "state_cost_coe, state_prices, question_limit and offer are for prompts that the "
                "run writes, but with prompt_style=null they are those of the data files; set a "
                "prompt_style"
            )

    def _check_dollars(self, usd: float) -> None:
        """Of a question: they must buy a call, and the policy must know prices."""
        cheapest = min(llm.max_tokens * llm.completion_price / 1e6 for llm in self.pool.offered)
        if usd < cheapest:
            raise ConfigError(
                f"question_limit.usd={usd:g} allows no call: the cheapest LLM of pool "
                f"{self.pool.name!r} may cost {show_dollars(cheapest)} a call (max_tokens x "
                "completion_price); raise it"
            )
        if not self.state_prices:
            raise ConfigError(
                f"question_limit.usd={usd:g} is dollars, and the policy is told no price; set "
                "state_prices=true"
            )
