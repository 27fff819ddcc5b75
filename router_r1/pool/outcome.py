"""How a call ended, what it brought, and what it cost.

The bill: a call costs what the endpoint says it billed in a reply that it sent as a success, also
if nothing useful is in it (``EMPTY``, ``MALFORMED``). Tokens are estimated only for a reply that is
a completion and does not say them. Every other call costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# No tokenizer's tokens are longer on average: text beyond so many a token is not worth keeping.
MAX_CHARACTERS_PER_TOKEN = 64


class Outcome(StrEnum):
    """The one way in which a call ended.

    OK: a reply came. UNKNOWN_LLM: no LLM of the pool has that name. INVALID_QUERY: blank, or the
    endpoint says that it is wrong or too long (400, 413, 422). TIMEOUT: no reply within the time
    limit. RATE_LIMITED: the endpoint's limits or ours left no room in time. SERVER_ERROR: 408,
    409, 425 or 5xx to the last. CONNECTION_ERROR: refused or cut. REFUSED: any other status (a
    wrong key, a wrong model, no credit), or a request field that the endpoint does not take.
    MALFORMED: a body that is no completion. EMPTY: a completion without text once its reasoning is
    left out; mostly all of ``max_tokens`` went into reasoning. UNAVAILABLE: not sent, the LLM has
    failed too often just now. BUDGET: not sent, it might exceed the spending limit. QUESTION_LIMIT:
    not sent, the question's calls are used up, or it might exceed what they may cost. NOT_RECORDED:
    not sent, replay has no such call.
    """

    OK = "ok"
    UNKNOWN_LLM = "unknown_llm"
    INVALID_QUERY = "invalid_query"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    CONNECTION_ERROR = "connection_error"
    REFUSED = "refused"
    MALFORMED = "malformed"
    EMPTY = "empty"
    UNAVAILABLE = "unavailable"
    BUDGET = "budget"
    QUESTION_LIMIT = "question_limit"
    NOT_RECORDED = "not_recorded"

    @property
    def infrastructure(self) -> bool:
        """Whether something other than the policy's choice made the call fail.

        An unknown name, a wrong query, a call too many and an LLM that has nothing to say are
        consequences of what the policy wrote; the spending limit is a setting.
        """
        return self not in (
            Outcome.OK,
            Outcome.UNKNOWN_LLM,
            Outcome.INVALID_QUERY,
            Outcome.EMPTY,
            Outcome.BUDGET,
            Outcome.QUESTION_LIMIT,
        )


@dataclass(frozen=True)
class Attempt:
    """What one request brought.

    Attributes:
        outcome: OK, or why not.
        text: of an OK one, without its reasoning; else empty.
        prompt_tokens, completion_tokens: as billed; see the module.
        usage_estimated: whether one of them is our own count.
        retry: whether the same request may succeed later.
        retry_after_s: what the endpoint asked for.
        detail: of a failed one, the endpoint's words.
        advice: of a failed one, what mends it, where its reply tells.
        error: what a body holds instead of a completion; the endpoint turns it into ``detail``.
    """

    outcome: Outcome
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usage_estimated: bool = False
    retry: bool = False
    retry_after_s: float = 0.0
    detail: str = ""
    advice: str = ""
    error: Any = None


@dataclass(frozen=True)
class CallResult:
    """One call.

    Attributes:
        llm: the pool's name, or what was asked for if it is unknown.
        outcome: how it ended.
        text: the reply without its reasoning, None unless ok.
        prompt_tokens, completion_tokens: as billed, reasoning included; see the module.
        cost: completion tokens x $ per 1M.
        dollars: what prompt and completion cost together.
        latency_s: from the first request to the end, retries included, waiting for a free place
            not; of a replayed call, that of the recorded one.
        usage_estimated: the endpoint did not say what it bills; the tokens are our own count.
        replayed: known from a recording or from an equal call, nothing was spent.
        detail: of a failed call, the endpoint's own words, cut and without keys, and what mends it
            where the reply tells; not recorded.
    """

    llm: str
    outcome: Outcome
    text: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    dollars: float = 0.0
    latency_s: float = 0.0
    usage_estimated: bool = False
    replayed: bool = False
    detail: str = field(default="", compare=False)
