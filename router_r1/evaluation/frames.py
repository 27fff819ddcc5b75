"""What a router did, as tables of numbers: its calls, whom they went to, and what changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from router_r1.evaluation.records import RoutedRecord
from router_r1.llm_agent.trajectory import Call
from router_r1.pool.outcome import Outcome

UNKNOWN_LLM = "unknown name"
MAX_DOMAINS = 24
_CALL_COLUMNS = ["step", "source", "domain", "llm", "answered", "cost", "tokens", "latency_s"]


def called_llm(call: Call) -> str:
    """The LLM a call counts for: the pool's name, or :data:`UNKNOWN_LLM`."""
    unknown = call.result.outcome is Outcome.UNKNOWN_LLM
    return UNKNOWN_LLM if unknown else call.result.llm


def llm_names(records: Iterable[RoutedRecord]) -> list[str]:
    """The pool's LLMs as far as the records know them, then :data:`UNKNOWN_LLM` if it was used."""
    columns = [name for record in records for name in record.scores if name.startswith("calls/")]
    asked = [called_llm(call) for record in records for call in record.trajectory.calls]
    names = dict.fromkeys([*(name.removeprefix("calls/") for name in columns), *asked])
    return sorted(names, key=UNKNOWN_LLM.__eq__)


def calls_frame(by_step: Mapping[int, Sequence[RoutedRecord]]) -> pd.DataFrame:
    """A line a call: ``step``, ``source``, ``domain``, ``llm``, ``answered`` and, in the units of
    the pool, ``cost``, ``tokens`` (of the completion) and ``latency_s``.

    The n-th call of a question counts for the n-th of its domains, later ones for the last; None
    where a question has none.
    """
    lines = [
        (
            step,
            record.data_source,
            str(domains[min(number, len(domains) - 1)]) if domains else None,
            called_llm(call),
            call.ok,
            call.result.cost,
            call.result.completion_tokens,
            call.result.latency_s,
        )
        for step, records in by_step.items()
        for record in records
        for domains in [record.domains]
        for number, call in enumerate(record.trajectory.calls)
    ]
    return pd.DataFrame(lines, columns=_CALL_COLUMNS)


def calls_by(calls: pd.DataFrame, column: str, llms: Sequence[str]) -> pd.DataFrame:
    """Calls to each of ``llms`` (columns) for each value of ``column``, in order of appearance."""
    known = calls.dropna(subset=[column])
    counts = pd.crosstab(known[column], known["llm"])
    return counts.reindex(index=known[column].unique(), columns=list(llms), fill_value=0)


def calls_by_domain(calls: pd.DataFrame, llms: Sequence[str]) -> pd.DataFrame:
    """The domains with the most calls, at most :data:`MAX_DOMAINS`."""
    counts = calls_by(calls, "domain", llms)
    most = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    return counts.loc[most[:MAX_DOMAINS]]


def llm_use(calls: pd.DataFrame, llms: Sequence[str]) -> pd.DataFrame:
    """A line an LLM: ``calls``, ``failed``, ``share`` of all calls, ``cost_share`` of all cost, and
    of the calls that did not fail mean ``tokens`` (0 if all failed) and median ``latency_s``."""
    of_llm = calls.groupby("llm")
    of_answered = calls[calls["answered"]].groupby("llm")
    use = pd.DataFrame(
        {
            "calls": of_llm.size(),
            "failed": of_llm.size() - of_answered.size().reindex(of_llm.size().index, fill_value=0),
            "share": of_llm.size() / max(1, len(calls)),
            "cost_share": of_llm["cost"].sum() / (calls["cost"].sum() or 1.0),
            "tokens": of_answered["tokens"].mean(),
            "latency_s": of_answered["latency_s"].median(),
        }
    ).reindex(list(llms))
    counts = ["calls", "failed", "share", "cost_share", "tokens"]
    use[counts] = use[counts].astype(float).fillna(0.0)
    return use.astype({"calls": int, "failed": int})


@dataclass(frozen=True)
class Changes:
    """Questions that two validations answer differently.

    Attributes:
        became_right, became_wrong: by exact match.
        changed_llm: asked other LLMs, or in another order.
        questions: compared.
    """

    became_right: int
    became_wrong: int
    changed_llm: int
    questions: int


def changes(before: Sequence[RoutedRecord], after: Sequence[RoutedRecord]) -> Changes:
    """From one validation to another; a question that one of them lacks counts in nothing."""
    pairs = _answers(before).join(_answers(after), how="inner", lsuffix="_before")
    was, became = pairs["is_right_before"].astype(bool), pairs["is_right"].astype(bool)
    return Changes(
        became_right=int((~was & became).sum()),
        became_wrong=int((was & ~became).sum()),
        changed_llm=int((pairs["asked_before"] != pairs["asked"]).sum()),
        questions=len(pairs),
    )


def _answers(records: Sequence[RoutedRecord]) -> pd.DataFrame:
    """By uid and sample: whether the answer is right, and whom it asked."""
    keys = pd.MultiIndex.from_tuples([record.key for record in records], names=["uid", "sample"])
    right = [record.scores.get("em", 0.0) >= 1 for record in records]
    asked = [tuple(called_llm(call) for call in record.trajectory.calls) for record in records]
    return pd.DataFrame({"is_right": right, "asked": asked}, index=keys)
