"""The simulated LLMs: what each is good at, what it bills, how long it takes.

Guarantees: names are distinct; in the pools `embedded` and `embedded_tiers` no LLM is good at both
hops of a two-hop question (film and science, music and sport).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from router_r1.world.knowledge import DOMAINS
from verl.config.validation import ConfigError


@dataclass(frozen=True)
class SimulatedLLM:
    """One model of the pool.

    Attributes:
        reliability: probability of a right reply, by domain.
        hidden_tokens: least and most tokens billed beside the visible ones (reasoning that the
            caller pays for and does not see).
        latency_s: least and most seconds to answer.
    """

    name: str
    reliability: dict[str, float]
    hidden_tokens: tuple[int, int]
    latency_s: tuple[float, float]

    def mean_completion_tokens(self) -> float:
        """Expected billed tokens of a reply that names an entity."""
        return sum(self.hidden_tokens) / 2 + visible_tokens("The x of x x is x x.")


def visible_tokens(text: str) -> int:
    """Tokens that a text is billed as: its words."""
    return len(text.split())


# All pools of pairs divide the domains alike: were they divided in two ways, whichever way training
# found first would decide between prices, not the reward.
_ARTS, _OTHERS = ("film", "music"), ("sport", "science")


def _of_one_price(
    at: float,
    elsewhere: float,
    hidden_tokens: tuple[int, int],
    latency_s: tuple[float, float],
    **known: tuple[str, ...],
) -> list[SimulatedLLM]:
    """LLMs by name, whose reliability is ``at`` in the domains that each knows, else
    ``elsewhere``."""
    return [
        SimulatedLLM(
            name,
            {domain: at if domain in domains else elsewhere for domain in DOMAINS},
            hidden_tokens,
            latency_s,
        )
        for name, domains in known.items()
    ]


# Of the pool `embedded`: every domain has a dear best LLM and a cheap one nearly as good.
EMBEDDED_LLMS = (
    *_of_one_price(0.50, 0.50, (34, 46), (0.010, 0.030), Atlas=()),
    *_of_one_price(0.98, 0.08, (38, 50), (0.010, 0.040), Borealis=_ARTS, Corvus=_OTHERS),
    *_of_one_price(0.95, 0.08, (8, 14), (0.005, 0.015), Draco=_ARTS, Electra=_OTHERS),
    *_of_one_price(0.12, 0.12, (4, 8), (0.002, 0.008), Fornax=()),
)
# Of the pool `embedded_tiers`: with its prices (1.55, 0.95, 0.66 and 0.07 $ per 1M tokens) a call
# costs 80.6, 38, 17.2 and 0.7 on average. Each tier is the best for one of cost_coe 0, 0.3, 0.6 and
# 0.9, by 0.03 of the reward or more, if cost is weighed by what uniform routing costs.
TIERED_LLMS = (
    *_of_one_price(0.98, 0.06, (38, 50), (0.020, 0.060), Grus=_ARTS, Hyades=_OTHERS),
    *_of_one_price(0.95, 0.06, (26, 38), (0.012, 0.036), Indus=_ARTS, Janus=_OTHERS),
    *_of_one_price(0.86, 0.06, (14, 22), (0.006, 0.018), Kepler=_ARTS, Lyra=_OTHERS),
    *_of_one_price(0.67, 0.06, (1, 3), (0.002, 0.006), Mensa=_ARTS, Norma=_OTHERS),
)
# Of the pool `embedded_profiles`: each pair of domains has one, all as good and as dear.
_PROFILED = ("Orion", "Pavo", "Pyxis", "Regor", "Taurus", "Vela")
_PAIRS = itertools.combinations(DOMAINS, 2)
PROFILED_LLMS = _of_one_price(
    0.97, 0.06, (8, 14), (0.005, 0.015), **dict(zip(_PROFILED, _PAIRS, strict=True))
)
SIMULATED_LLMS = {llm.name: llm for llm in (*EMBEDDED_LLMS, *TIERED_LLMS, *PROFILED_LLMS)}


def find_llms(names: Iterable[str]) -> dict[str, SimulatedLLM]:
    """The simulated LLMs of these names, in their order; a ConfigError for an unknown name."""
    wanted = list(names)
    if unknown := [name for name in wanted if name not in SIMULATED_LLMS]:
        raise ConfigError(
            f"the embedded world has no LLM named {', '.join(unknown)}; it has "
            f"{', '.join(SIMULATED_LLMS)}"
        )
    return {name: SIMULATED_LLMS[name] for name in wanted}
