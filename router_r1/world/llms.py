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
        name: as in the prompt.
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


@dataclass(frozen=True)
class Tier:
    """What the LLMs of one price have in common: the reliability ``at`` the domains that an LLM
    knows, and ``elsewhere``; else as :class:`SimulatedLLM`."""

    at: float
    elsewhere: float
    hidden_tokens: tuple[int, int]
    latency_s: tuple[float, float]

    def llm(self, name: str, *known: str) -> SimulatedLLM:
        """One that knows these domains."""
        reliability = {domain: self.at if domain in known else self.elsewhere for domain in DOMAINS}
        return SimulatedLLM(name, reliability, self.hidden_tokens, self.latency_s)

    def pair(self, first: str, second: str) -> tuple[SimulatedLLM, SimulatedLLM]:
        """Two that share the domains. All tiers divide them alike: were they divided in two ways,
        whichever way training found first would decide between the tiers, not the reward.
        """
        return self.llm(first, "film", "music"), self.llm(second, "sport", "science")


# Of the pool `embedded`: every domain has a dear best LLM and a cheap one nearly as good.
EMBEDDED_LLMS = (
    Tier(0.50, 0.50, (34, 46), (0.010, 0.030)).llm("Atlas"),
    *Tier(0.98, 0.08, (38, 50), (0.010, 0.040)).pair("Borealis", "Corvus"),
    *Tier(0.95, 0.08, (8, 14), (0.005, 0.015)).pair("Draco", "Electra"),
    Tier(0.12, 0.12, (4, 8), (0.002, 0.008)).llm("Fornax"),
)
# Of the pool `embedded_tiers`: with its prices (1.55, 0.95, 0.66 and 0.07 $ per 1M tokens) a call
# costs 80.6, 38, 17.2 and 0.7 on average. Each tier is the best for one of cost_coe 0, 0.3, 0.6 and
# 0.9, by 0.03 of the reward or more, if cost is weighed by what uniform routing costs.
TIERED_LLMS = (
    *Tier(0.98, 0.06, (38, 50), (0.020, 0.060)).pair("Grus", "Hyades"),
    *Tier(0.95, 0.06, (26, 38), (0.012, 0.036)).pair("Indus", "Janus"),
    *Tier(0.86, 0.06, (14, 22), (0.006, 0.018)).pair("Kepler", "Lyra"),
    *Tier(0.67, 0.06, (1, 3), (0.002, 0.006)).pair("Mensa", "Norma"),
)
# Of the pool `embedded_profiles`: each pair of domains has one, all as good and as dear.
_PROFILE = Tier(0.97, 0.06, (8, 14), (0.005, 0.015))
PROFILED_LLMS = tuple(
    _PROFILE.llm(name, *pair)
    for name, pair in zip(
        ("Orion", "Pavo", "Pyxis", "Regor", "Taurus", "Vela"),
        itertools.combinations(DOMAINS, 2),
        strict=True,
    )
)
SIMULATED_LLMS = {llm.name: llm for llm in (*EMBEDDED_LLMS, *TIERED_LLMS, *PROFILED_LLMS)}


def find_llms(names: Iterable[str]) -> dict[str, SimulatedLLM]:
    """The simulated LLMs of these names, in their order.

    Raises:
        ConfigError: if there is none of a name.
    """
    wanted = list(names)
    if unknown := [name for name in wanted if name not in SIMULATED_LLMS]:
        raise ConfigError(
            f"the embedded world has no LLM named {', '.join(unknown)}; it has "
            f"{', '.join(SIMULATED_LLMS)}"
        )
    return {name: SIMULATED_LLMS[name] for name in wanted}
