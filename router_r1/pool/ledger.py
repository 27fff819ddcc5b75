"""What the pool's calls came to: outcomes, tokens and money, by LLM.

``pool/infrastructure_failures/<LLM>`` is the share of an LLM's calls that failed for a reason that
is not the policy's; of the calls since the last collection, 0 without any.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any

from router_r1.pool.outcome import CallResult, Outcome


@dataclass
class Account:
    """Sums of one LLM's calls; ``spent_usd`` leaves replayed ones out, ``dollars`` does not."""

    calls: int = 0
    answered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    dollars: float = 0.0
    spent_usd: float = 0.0

    def __add__(self, other: Account) -> Account:
        """Sums of both."""
        return Account(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Account)}
        )


class Ledger:
    """Books every call of a client to the LLMs of these names."""

    def __init__(self, llms: list[str]) -> None:
        self.accounts = {name: Account() for name in llms}
        self.outcomes: Counter[Outcome] = Counter()
        self.outcomes_of: dict[str, Counter[Outcome]] = {name: Counter() for name in llms}
        self.usage_estimated = 0
        self._reported: Counter[Outcome] = Counter()
        self._reported_of: dict[str, Counter[Outcome]] = {name: Counter() for name in llms}

    def book(self, result: CallResult) -> None:
        """Adds one call."""
        self.outcomes[result.outcome] += 1
        self.usage_estimated += result.usage_estimated
        if result.outcome is Outcome.UNKNOWN_LLM:  # any text, also the name of one not offered
            return
        account = self.accounts[result.llm]
        self.outcomes_of[result.llm][result.outcome] += 1
        account.calls += 1
        account.answered += result.outcome is Outcome.OK
        account.prompt_tokens += result.prompt_tokens
        account.completion_tokens += result.completion_tokens
        account.cost += result.cost
        account.dollars += result.dollars
        account.spent_usd += 0.0 if result.replayed else result.dollars

    def state_dict(self) -> dict[str, Any]:
        """All sums, as JSON values."""
        return {
            "accounts": {name: asdict(account) for name, account in self.accounts.items()},
            "outcomes": _to_json(self.outcomes),
            "outcomes_of": {name: _to_json(counts) for name, counts in self.outcomes_of.items()},
            "usage_estimated": self.usage_estimated,
        }

    def load_state_dict(self, state: dict[str, Any], newest: dict[str, Any]) -> None:
        """Goes on from what :meth:`state_dict` gave; the next collection starts after it.

        Args:
            newest: what it gave later, in steps that are taken again: money alone stays spent.
        """
        for name in self.accounts.keys() & state["accounts"].keys():
            account = Account(**state["accounts"][name])
            account.spent_usd = max(account.spent_usd, newest["accounts"][name]["spent_usd"])
            self.accounts[name] = account
            self.outcomes_of[name] = _from_json(state["outcomes_of"][name])
            self._reported_of[name] = self.outcomes_of[name].copy()
        self.outcomes = _from_json(state["outcomes"])
        self._reported = self.outcomes.copy()
        self.usage_estimated = state["usage_estimated"]

    @property
    def spent_usd(self) -> float:
        """By all LLMs, replayed calls left out."""
        return sum(account.spent_usd for account in self.accounts.values())

    def describe_failures(self) -> str:
        """Each LLM with calls that infrastructure failed: how many, and mostly how; the worst
        first."""
        failed = {name: _failures(outcomes) for name, outcomes in self.outcomes_of.items()}
        return ", ".join(
            f"{name} {failures.total()} of {self.outcomes_of[name].total()} calls "
            f"({failures.most_common(1)[0][0].value})"
            for name, failures in sorted(failed.items(), key=lambda item: -item[1].total())
            if failures
        )

    def collect_metrics(self) -> dict[str, float]:
        """``pool/outcome/*`` and ``pool/infrastructure_failures/*``: of the calls since the last
        collection; the rest: sums so far."""
        fresh = self.outcomes - self._reported
        self._reported = self.outcomes.copy()
        metrics = {f"pool/outcome/{outcome.value}": float(fresh[outcome]) for outcome in Outcome}
        metrics["pool/usage_estimated"] = float(self.usage_estimated)
        metrics["pool/spent_usd"] = self.spent_usd
        for name, account in self.accounts.items():
            metrics[f"pool/spent_usd/{name}"] = account.spent_usd
            fresh = self.outcomes_of[name] - self._reported_of[name]
            self._reported_of[name] = self.outcomes_of[name].copy()
            share = _failures(fresh).total() / max(1, fresh.total())
            metrics[f"pool/infrastructure_failures/{name}"] = share
        return metrics


def _failures(outcomes: Counter[Outcome]) -> Counter[Outcome]:
    return Counter({outcome: n for outcome, n in outcomes.items() if outcome.infrastructure})


def _to_json(outcomes: Counter[Outcome]) -> dict[str, int]:
    return {outcome.value: count for outcome, count in outcomes.items()}


def _from_json(counts: dict[str, int]) -> Counter[Outcome]:
    return Counter({Outcome(value): count for value, count in counts.items()})
