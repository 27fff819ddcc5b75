"""Whether a run still reaches its LLMs.

Guarantees: a run is told to stop once an LLM refuses every call, or once most calls have failed
for several rollouts; the reason names the LLMs, their shares, since when, and what to do. Names
that no LLM has, blank queries, replayed calls, and what the budget or a question's limit refuses do
not count.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from router_r1.pool.outcome import CallResult, Outcome
from verl.config.validation import POSITIVE, SHARE, Section

# Decided by the policy's words or by a setting.
_NOT_THE_POOLS = (Outcome.UNKNOWN_LLM, Outcome.BUDGET, Outcome.QUESTION_LIMIT)
_SHOWN_LLMS = 3


@dataclass
class HealthConfig(Section, prefix="pool.health."):
    """When a run gives up on its pool.

    Attributes:
        max_failed_share: a rollout is failed if infrastructure failed more than this share of its
            calls, retries and waiting included; 1.0 switches this limit off.
        failed_rollouts: so many failed rollouts in a row end the run.
        refusals: so many calls of one LLM refused (a wrong key, no such model; of one that has
            never answered, also requests that its endpoint calls invalid) in a row, over all
            rollouts, end the run; null switches this limit off.
    """

    max_failed_share: float = field(default=0.5, metadata=SHARE)
    failed_rollouts: int = field(default=3, metadata=POSITIVE)
    refusals: int | None = field(default=8, metadata=POSITIVE)


@dataclass
class _Record:
    has_answered: bool = False  # a call of this run
    # since the last rollout's end
    calls: int = 0
    failures: Counter[Outcome] = field(default_factory=Counter)
    # since its last answer
    refused_in_a_row: int = 0
    failing_since: float | None = None  # seconds since 1970

    def book(self, outcome: Outcome) -> None:
        """Counts a call that was sent."""
        self.calls += 1
        if not (outcome.infrastructure or outcome is Outcome.INVALID_QUERY):
            self.has_answered, self.refused_in_a_row, self.failing_since = True, 0, None
            return
        self.failures[outcome] += 1
        self.failing_since = self.failing_since or time.time()
        refused = outcome in (Outcome.REFUSED, Outcome.INVALID_QUERY)
        self.refused_in_a_row = self.refused_in_a_row + 1 if refused else 0


class PoolHealth:
    """Watches the calls of a client to the LLMs of these names."""

    def __init__(self, config: HealthConfig, llms: Sequence[str]) -> None:
        self._config = config
        self._records = {name: _Record() for name in llms}
        self._failed_rollouts = 0
        self._failed_since: float | None = None
        self._last_share = 0.0

    def book(self, result: CallResult) -> None:
        """Takes one call into account."""
        record = self._records.get(result.llm)
        if record is None or result.replayed or result.outcome in _NOT_THE_POOLS:
            return
        blank = not result.latency_s
        if result.outcome is Outcome.INVALID_QUERY and (blank or record.has_answered):
            return  # the policy's own fault
        record.book(result.outcome)

    def end_rollout(self) -> str | None:
        """Judges the calls since the last time; why the run should stop, None if it should not."""
        records = self._records.values()
        calls = sum(record.calls for record in records)
        failed = sum(record.failures.total() for record in records)
        self._last_share = failed / calls if calls else 0.0
        if calls and self._last_share <= self._config.max_failed_share:
            self._failed_rollouts, self._failed_since = 0, None
        elif calls:
            self._failed_rollouts += 1
            began = [record.failing_since for record in records if record.failing_since]
            self._failed_since = self._failed_since or min(began, default=time.time())
        reason = self._refusing() or self._failing()
        for record in records:
            record.calls = 0
            record.failures.clear()
        return reason

    def _refusing(self) -> str | None:
        limit = self._config.refusals
        refusing = {
            name: record
            for name, record in self._records.items()
            if limit is not None and record.refused_in_a_row >= limit
        }
        if not refusing:
            return None
        most = max(record.refused_in_a_row for record in refusing.values())
        since = min(record.failing_since or time.time() for record in refusing.values())
        return (
            f"{_shorten(list(refusing))} refused every call since {_clock(since)} ({most} in a "
            f"row; {self._last_share:.0%} of the last rollout's calls failed): look at the key, "
            "the model's name, your access to it and the request's options (python -m "
            "router_r1.pool check), or take it out of the "
            f"pool; the limit is pool.health.refusals={limit}"
        )

    def _failing(self) -> str | None:
        if self._failed_rollouts < self._config.failed_rollouts:
            return None
        worst = sorted(self._records.items(), key=lambda item: -item[1].failures.total())
        shares = [
            f"{name} {r.failures.total()} of {r.calls} ({r.failures.most_common(1)[0][0].value})"
            for name, r in worst
            if r.failures
        ]
        assert self._failed_since is not None
        return (
            f"{self._last_share:.0%} of the calls failed in the last of {self._failed_rollouts} "
            f"such rollouts in a row, since {_clock(self._failed_since)}: {_shorten(shares)}; see "
            "what the endpoints say (python -m router_r1.pool check); the limits are "
            f"pool.health.max_failed_share={self._config.max_failed_share:g} and "
            f"pool.health.failed_rollouts={self._config.failed_rollouts}"
        )

    def collect_metrics(self) -> dict[str, float]:
        """``pool/failed_share``: of the last rollout's calls, what infrastructure failed."""
        return {"pool/failed_share": self._last_share}


def _shorten(parts: Sequence[str]) -> str:
    more = len(parts) - _SHOWN_LLMS
    return ", ".join(parts[:_SHOWN_LLMS]) + (f" and {more} more" if more > 0 else "")


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
