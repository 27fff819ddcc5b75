"""The pool file: one YAML names every LLM; prompt, parser, prices and client follow from it.

By its ``kind`` a member may be a tool. It is asked, priced and counted as an LLM is, and "LLM"
means both wherever nothing else is said.

Guarantees: a validated pool has LLMs with distinct names and aliases and a price for each, no
member has a key that its kind does not read, and :meth:`PoolConfig.resolve` gives at most one LLM
for any text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from omegaconf import MISSING

from router_r1.pool.health import HealthConfig
from router_r1.pool.original_names import resolve_original_name
from router_r1.pool.recording import RecordingConfig
from router_r1.pool.request_options import RequestOptions
from verl.config.paths import PATH
from verl.config.validation import (
    NOT_NEGATIVE,
    POSITIVE,
    ConfigError,
    Section,
    changed_fields,
    one_of,
    require_ranges,
)

QUERY_MARKER = "Question for you: "
LLM, SEARCH, CALCULATOR = KINDS = ("llm", "search", "calculator")
_KEYS_OF_LLMS = (
    *("model", "temperature", "base_url", "api_key_env"),
    *("concurrency", "requests_per_minute", "request"),
)
_KEYS_OF_SEARCH = ("corpus", "passages")
_UNREAD_KEYS = {
    LLM: _KEYS_OF_SEARCH,
    SEARCH: _KEYS_OF_LLMS,
    CALCULATOR: (*_KEYS_OF_LLMS, *_KEYS_OF_SEARCH),
}

DEFAULT_INSTRUCTION = (
    "You are one of several language models, each with strengths of its own. Another model is "
    "working on a larger problem and sends you one part of it. Answer that part directly, or give "
    "context that helps to answer it, in fewer than about 512 tokens. If you cannot help, say so "
    "and suggest that the model ask a different LLM."
)


@dataclass
class LLMConfig:
    """One LLM of the pool.

    Attributes:
        name: as the prompt and the policy write it.
        model: as the endpoint calls it; only an LLM has one, and must.
        descriptor: one paragraph of the prompt; "{name}" in it is the name that the LLM goes by.
        completion_price, prompt_price: $ per 1M tokens.
        latency_s: seconds that a reply takes as a rule, for prompts that state it; None if unknown.
        aliases: other names that mean this LLM.
        in_prompt: False for an LLM that is resolvable but not offered to the policy.
        max_tokens: of a reply; a tool's tokens are words.
        base_url, api_key_env: override the pool's.
        concurrency: calls in flight at once, at most; the endpoint's 429s narrow it.
        requests_per_minute: rate limit; None for none.
        request: what its endpoint wants otherwise in a request.
        kind: "llm"; or "search", which finds passages of ``corpus``, or "calculator", which
            evaluates arithmetic: tools that need no endpoint and no key.
        corpus: file of a search (:mod:`router_r1.pool.tools.corpus` says what may stand in it).
        passages: in a reply of a search, at most.
    """

    name: str = MISSING
    model: str = ""
    descriptor: str = ""
    completion_price: float = MISSING
    prompt_price: float = 0.0
    latency_s: float | None = None
    aliases: list[str] = field(default_factory=list)
    in_prompt: bool = True
    temperature: float = 0.0
    max_tokens: int = field(default=512, metadata=POSITIVE)
    base_url: str | None = None
    api_key_env: str | None = None
    concurrency: int = field(default=32, metadata=POSITIVE)
    requests_per_minute: float | None = field(default=None, metadata=POSITIVE)
    request: RequestOptions = field(default_factory=RequestOptions)
    kind: str = field(default=LLM, metadata=one_of(*KINDS))
    corpus: str | None = field(default=None, metadata=PATH)
    passages: int = field(default=3, metadata=POSITIVE)

    @property
    def is_tool(self) -> bool:
        """Whether it answers without an endpoint."""
        return self.kind != LLM

    def __post_init__(self) -> None:
        place = f"pool LLM {self.name}: "
        require_ranges(self, place)
        for price in (self.completion_price, self.prompt_price):
            if not 0 <= price < math.inf:  # NaN would switch the budget off
                raise ConfigError(
                    f"{place}a price must be a number of dollars, 0 or more; got {price}"
                )
        if self.kind == LLM and not self.model:
            raise ConfigError(
                f"{place}model must be set, to what its endpoint calls it; a tool "
                f"needs none, and says so by kind: one of {', '.join(KINDS[1:])}"
            )
        if self.kind == SEARCH and not self.corpus:
            raise ConfigError(f"{place}kind={SEARCH} needs corpus, the file to search")
        changed = changed_fields(self)
        if given := [name for name in _UNREAD_KEYS[self.kind] if name in changed]:
            raise ConfigError(
                f"{place}kind={self.kind} does not read {', '.join(given)}; leave it out"
            )

    @property
    def described(self) -> str:
        """The descriptor, with the LLM's name in it where it has a place for that."""
        return self.descriptor.strip().replace("{name}", self.name)

    @property
    def priced(self) -> str:
        """Price and latency in words, such as "$0.3 per 1M tokens, about 2 s"."""
        words = f"${self.completion_price:.3g} per 1M tokens"
        return words if self.latency_s is None else f"{words}, about {self.latency_s:.2g} s"


@dataclass
class PoolConfig(Section, prefix="pool."):
    """All LLMs and how to reach them.

    Attributes:
        api_base: OpenAI-compatible endpoint; None only with ``simulated``.
        api_key_env: environment variable that holds the key; empty where none is to be sent.
        simulated: start the embedded world's server and use it as the endpoint.
        name_matching: "exact" matches names and aliases, case-insensitively; "original" keeps
            the paper's substring rules.
        instruction: precedes every query in the user message.
        request_timeout_s: limit of one call, all retries included, pauses that the endpoint asks
            for not.
        queue_timeout_s: longest wait of one call for a free place and in such pauses, together.
        max_retries: of one call, on 408/409/425/429/5xx and connection errors; attempts that the
            endpoint answered with a pause to keep (Retry-After) are not counted, the two time
            limits bound them.
        retry_backoff_s: first wait between retries; it doubles, with jitter.
        breaker_failures: failed attempts in a row after which an LLM is left alone.
        breaker_cooldown_s: for so long.
        budget_usd: hard limit of what a run may spend; None for none.
        share_equal_calls: equal calls under way at once are sent, and paid, once; all get that
            reply, also where sampling at a temperature would have given each another.
        recording: keeps calls, and replays them.
        health: when a training run gives up on the pool.
    """

    name: str = MISSING
    llms: list[LLMConfig] = field(default_factory=list)
    api_base: str | None = None
    api_key_env: str = "ROUTER_R1_API_KEY"
    simulated: bool = False
    name_matching: str = field(default="exact", metadata=one_of("exact", "original"))
    instruction: str = DEFAULT_INSTRUCTION
    request_timeout_s: float = field(default=60.0, metadata=POSITIVE)
    queue_timeout_s: float = field(default=600.0, metadata=POSITIVE)
    max_retries: int = field(default=3, metadata=NOT_NEGATIVE)
    retry_backoff_s: float = field(default=0.5, metadata=NOT_NEGATIVE)
    breaker_failures: int = field(default=16, metadata=POSITIVE)
    breaker_cooldown_s: float = field(default=10.0, metadata=POSITIVE)
    budget_usd: float | None = field(default=None, metadata=POSITIVE)
    share_equal_calls: bool = False
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    health: HealthConfig = field(default_factory=HealthConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        unbounded = [llm.name for llm in self.llms if "max_tokens" in llm.request.omit]
        if unbounded and self.budget_usd is not None:
            raise ConfigError(
                f"pool.budget_usd needs a bound of what a call costs, but request.omit leaves "
                f"max_tokens out for {', '.join(unbounded)}; rename it instead"
            )
        if not self.llms:
            raise ConfigError(f"pool {self.name!r} has no LLM")
        place = f"pool {self.name!r}: "
        self._by_name: dict[str, LLMConfig] = {}
        for llm in self.llms:
            for key in (llm.name, *llm.aliases):
                folded = key.strip().lower()
                if taken := self._by_name.get(folded):
                    raise ConfigError(
                        f"{place}the name {key!r} of LLM {llm.name!r} is already taken by "
                        f"{taken.name!r}; names and aliases must differ"
                    )
                if not folded or ":" in folded:
                    raise ConfigError(f"{place}{key!r} cannot be a name (empty or ':')")
                self._by_name[folded] = llm
        if self.name_matching == "original":
            if self.tools:
                raise ConfigError(
                    f"{place}name_matching=original knows no tools, and {self.tools[0].name!r} is "
                    "one; use name_matching=exact"
                )
            for llm in self.llms:
                model, _ = resolve_original_name(llm.name)
                if model != llm.model:
                    raise ConfigError(
                        f"{place}under name_matching=original the name {llm.name!r} means "
                        f"{model!r}, not {llm.model!r}; use name_matching=exact"
                    )

    def resolve(self, name: str) -> LLMConfig | None:
        """The LLM that ``name`` means, or None."""
        if self.name_matching == "original":
            model, _ = resolve_original_name(name)
            return {llm.model: llm for llm in self.llms}.get(model)
        return self._by_name.get(name.strip().lower())

    def key_variable(self, llm: LLMConfig) -> str:
        """The environment variable with an LLM's key; empty for none."""
        if llm.is_tool:
            return ""
        return self.api_key_env if llm.api_key_env is None else llm.api_key_env

    def instruction_of(self, llm: LLMConfig) -> str:
        """What precedes every query to it; empty for a tool, which gets the query alone."""
        return "" if llm.is_tool else self.instruction

    @property
    def tools(self) -> list[LLMConfig]:
        """The members that are no LLMs."""
        return [llm for llm in self.llms if llm.is_tool]

    @property
    def offered(self) -> list[LLMConfig]:
        """The LLMs that the prompt offers to the policy."""
        return [llm for llm in self.llms if llm.in_prompt]

    @property
    def needs_server(self) -> bool:
        """Whether it is simulated and has no endpoint, so that its own server is to be started."""
        return self.simulated and self.api_base is None

    @property
    def simulated_names(self) -> list[str]:
        """Of a simulated pool, the LLMs that the embedded world plays: all without a URL."""
        return [llm.name for llm in self.llms if llm.base_url is None and not llm.is_tool]

    def prices(self) -> dict[str, float]:
        """LLM name to $ per 1M completion tokens."""
        return {llm.name: llm.completion_price for llm in self.llms}

    def prompt_prices(self) -> dict[str, float]:
        """LLM name to $ per 1M prompt tokens."""
        return {llm.name: llm.prompt_price for llm in self.llms}
