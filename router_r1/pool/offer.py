"""The pool as one question is offered it: some of its LLMs, in an order, under names and at prices
of this question.

A router that is trained so has to read who is offered, and can then be asked with LLMs, names and
prices that it has never seen.

Guarantees: what a row is offered depends on the row and the settings alone, so that its prompt, its
calls, its reward and a run that goes on agree on it; the LLMs that answer, and the money they take,
are those of the pool file whatever they are called here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from router_r1.pool.config import LLMConfig, PoolConfig
from verl.config.validation import POSITIVE, ConfigError, Section
from verl.utils.rows import extra_info


@dataclass
class OfferConfig(Section, prefix="offer."):
    """What is drawn for each question, from its row.

    Attributes:
        size: LLMs offered; null offers all.
        by_tier: one LLM of each of ``size`` tiers, into which the pool is cut by price, as many in
            each as can be, so that every question is offered dear and cheap ones; needs ``size``.
        names: that they go by, each question's drawn from these; empty leaves them their own.
        price_jitter: j of the factor exp(u), u uniform in [-j, j], by which a question's prices
            differ from the pool file's; 0 leaves them.
        held_out: LLMs that are never offered; a later evaluation's own settings may offer them.
    """

    size: int | None = field(default=None, metadata=POSITIVE)
    by_tier: bool = False
    names: list[str] = field(default_factory=list)
    price_jitter: float = 0.0
    held_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by_tier and self.size is None:
            raise ConfigError("offer.by_tier=true cuts the pool into offer.size tiers; set it")
        if not 0.0 <= self.price_jitter <= 3.0:
            raise ConfigError(f"offer.price_jitter must be in [0, 3], got {self.price_jitter}")
        folded = [name.strip().lower() for name in self.names]
        if len(set(folded)) < len(folded):
            raise ConfigError(f"offer.names must be distinct; got {self.names}")
        if unusable := [name for name in self.names if not _is_name(name)]:
            raise ConfigError(
                f"offer.names: {', '.join(map(repr, unusable))} cannot be called; a name is one "
                "line of text without ':', '<' and '>'"
            )


@dataclass(frozen=True)
class OfferedNames:
    """Names that a question was offered, each with the pool file's name of its LLM, in the order of
    the prompt."""

    owners: tuple[tuple[str, str], ...]

    def resolve(self, name: str) -> str | None:
        """The pool file's name of the LLM that was offered as ``name``; None if none was."""
        wanted = name.strip().lower()
        return next((own for shown, own in self.owners if shown.strip().lower() == wanted), None)


@dataclass(frozen=True)
class OfferedPool:
    """The pool with a question's names and prices, in the order of its prompt, and the same LLMs as
    the pool file has them, in the same order."""

    pool: PoolConfig
    owners: tuple[LLMConfig, ...]

    @property
    def names(self) -> OfferedNames:
        """What a trajectory keeps of it."""
        shown = (llm.name for llm in self.pool.llms)
        return OfferedNames(tuple(zip(shown, (own.name for own in self.owners), strict=True)))

    def owner_of(self, shown: LLMConfig) -> LLMConfig:
        """The pool file's LLM that is offered so."""
        return self.owners[[llm.name for llm in self.pool.llms].index(shown.name)]


class Offers:
    """Draws what questions are offered of a pool; raises :class:`ConfigError` if the pool cannot
    give what the settings ask for."""

    def __init__(self, config: OfferConfig, pool: PoolConfig) -> None:
        self._config = config
        self._pool = pool
        known = {llm.name for llm in pool.offered}
        if unknown := sorted(set(config.held_out) - known):
            raise ConfigError(
                f"offer.held_out: pool {pool.name!r} offers no {', '.join(unknown)}; it offers "
                f"{', '.join(sorted(known))}"
            )
        self._llms = [llm for llm in pool.offered if llm.name not in config.held_out]
        size = config.size or len(self._llms)
        if not 0 < size <= len(self._llms):
            raise ConfigError(
                f"offer.size={config.size}, but pool {pool.name!r} has {len(self._llms)} LLMs to "
                "offer; lower it, or shorten offer.held_out"
            )
        if config.names and len(config.names) < size:
            raise ConfigError(
                f"offer.names holds {len(config.names)} names for the {size} LLMs of a question; "
                "add names or lower offer.size"
            )
        if pool.name_matching != "exact":
            raise ConfigError(
                f"offer needs a pool with name_matching=exact, where a name means one LLM whatever "
                f"it is; pool {pool.name!r} is matched by {pool.name_matching!r}"
            )
        self._size = size
        by_price = sorted(self._llms, key=lambda llm: llm.completion_price)
        bounds = [len(by_price) * tier // size for tier in range(size + 1)]
        self._tiers = [by_price[low:high] for low, high in pairwise(bounds)]

    def of_row(self, row: Mapping[str, Any]) -> OfferedPool:
        """The pool as a data row's question is offered it."""
        info = extra_info(row)
        return self.draw(random.Random(f"offer-{info.get('index')}-{info.get('question')}"))

    def draw(self, rng: random.Random) -> OfferedPool:
        """The pool as some question may be offered it."""
        llms = self._llms
        if self._config.by_tier:
            llms = [rng.choice(tier) for tier in self._tiers]
        owners = rng.sample(llms, self._size)
        names = [llm.name for llm in owners]
        if self._config.names:
            names = rng.sample(self._config.names, self._size)
        shown = [self._offered(llm, name, rng) for llm, name in zip(owners, names, strict=True)]
        return OfferedPool(replace(self._pool, llms=shown), tuple(owners))

    def _offered(self, llm: LLMConfig, name: str, rng: random.Random) -> LLMConfig:
        """An LLM under a question's name and prices; its own name means nothing there."""
        jitter = self._config.price_jitter
        factor = math.exp(rng.uniform(-jitter, jitter)) if jitter else 1.0
        return replace(
            llm,
            name=name,
            aliases=[] if self._config.names else llm.aliases,
            completion_price=llm.completion_price * factor,
            prompt_price=llm.prompt_price * factor,
        )


def _is_name(text: str) -> bool:
    """Whether a call can name an LLM so."""
    return bool(text.strip()) and text.isprintable() and not set(":<>") & set(text)
