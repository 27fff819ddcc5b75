"""What a router did, as tables of numbers: its calls, whom they went to, and what changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from router_r1.llm_agent.trajectory import Call, RoutedTrajectory
from router_r1.pool.outcome import Outcome
from verl.trainer.evaluation.records import EvaluationRecord

RoutedRecord = EvaluationRecord[RoutedTrajectory]
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
    lines = []
    for step, records in by_step.items():
        for record in records:
            domains: list[str | None] = [*map(str, record.domains)] or [None]
            for number, call in enumerate(record.trajectory.calls):
                domain, result = domains[min(number, len(domains) - 1)], call.result
                whom = (step, record.data_source, domain, called_llm(call), call.ok)
                lines.append((*whom, result.cost, result.completion_tokens, result.latency_s))
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
    answered = calls[calls["answered"].astype(bool)]  # without a call the column has no kind
    of_llm, of_answered = calls.groupby("llm"), answered.groupby("llm")
    columns = {
        "calls": of_llm.size(),
        "failed": of_llm.size() - of_llm["answered"].sum(),
        "share": of_llm.size() / max(1, len(calls)),
        "cost_share": of_llm["cost"].sum() / (calls["cost"].sum() or 1.0),
        "tokens": of_answered["tokens"].mean(),
        "latency_s": of_answered["latency_s"].median(),
    }
    missing = dict.fromkeys(["calls", "failed", "share", "cost_share", "tokens"], 0)
    use = pd.DataFrame(columns).reindex(list(llms)).astype(float).fillna(missing)
    return use.astype({"calls": int, "failed": int})


class Changes(NamedTuple):
    """Questions that two validations answer differently: by exact match, and by whom they asked;
    ``questions`` were compared."""

    became_right: int
    became_wrong: int
    changed_llm: int
    questions: int


def changes(before: Sequence[RoutedRecord], after: Sequence[RoutedRecord]) -> Changes:
    """From one validation to another; a question that one of them lacks counts in nothing."""
    earlier = {record.key: _answer(record) for record in before}
    pairs = [(earlier[new.key], _answer(new)) for new in after if new.key in earlier]
    return Changes(
        became_right=sum(right and not was_right for (was_right, _), (right, _) in pairs),
        became_wrong=sum(was_right and not right for (was_right, _), (right, _) in pairs),
        changed_llm=sum(asked != had_asked for (_, had_asked), (_, asked) in pairs),
        questions=len(pairs),
    )


def _answer(record: RoutedRecord) -> tuple[bool, list[str]]:
    """Whether it is right, and whom it asked."""
    asked = [called_llm(call) for call in record.trajectory.calls]
    return record.scores.get("em", 0.0) >= 1, asked
