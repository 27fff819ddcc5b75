"""Trajectories as the page's viewer reads them: one small index, and chunks of details.

Guarantees: every record is there, in its order; what enters the page is base64 of deflated JSON,
so no text of a trajectory can be taken for markup. The format is described at :func:`encode`.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from router_r1.evaluation.frames import RoutedRecord, called_llm, llm_names
from router_r1.evaluation.viewer.reward_rule import RewardRule, branch_of, follows, format_fault
from router_r1.evaluation.viewer.segments import OBSERVATION, split_response
from router_r1.llm_agent.trajectory import Call
from router_r1.pool.config import PoolConfig
from router_r1.pool.outcome import Outcome
from router_r1.reward import CostScale

CHUNK = 250
_COSTLY_QUANTILE = 0.9
# Text limits (characters a block) tried in turn until the page is small enough.
_TEXT_LIMITS = (None, 4000, 2000, 1000, 500, 250)
_OF_RULE = ("metric", "inferred", "cost_unit", "latency_coe", "form")
_PARTS = ("cost_reward", "latency_reward", "step_reward")


@dataclass(frozen=True)
class EncodedTrajectories:
    """Base64 of deflated JSON: the index of all trajectories, and details of ``CHUNK`` of them
    each, in order, whose blocks were cut to ``text_limit`` characters (None if all is there)."""

    index: str
    chunks: list[str]
    text_limit: int | None

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return len(self.index) + sum(map(len, self.chunks))


def encode(
    records: Sequence[RoutedRecord],
    rule: RewardRule,
    pool: PoolConfig | None,
    size_limit: int,
    steps: Sequence[int] | None = None,
) -> EncodedTrajectories:
    """Encodes all records in at most ``size_limit`` bytes, cutting long texts if it must.

    The index is an object: ``sources``, ``llms``, ``outcomes``, ``statuses`` (names that the rest
    refers to by position), ``chunk`` (records a chunk), ``metric``, ``inferred``,
    ``cost_unit``, ``latency_coe``, ``form``, ``cost_bounds`` and ``latency_bounds`` (the costs, and
    the seconds, up to which their reward is 1 and from which on it is 0; null if they moved) and
    ``rows``: an array per column, one entry a trajectory; of a run's validations, ``step`` among
    them (from ``steps``, one a record). A detail is an object: ``gold``, ``blocks`` ([kind, text,
    call or null]), ``calls`` ([llm, outcome, prompt tokens, completion tokens, cost, dollars,
    latency in seconds, reply if it is not the observation, neutralised tags, flags]), ``cost_coe``,
    ``branch``, ``follows``, ``fault``, ``cost_reward``, ``latency_reward``, ``step_reward``.
    If even the shortest text limit is not enough, its result is returned.
    """
    index = _pack(index_of(records, rule, steps))
    details = [detail_of(record, rule, pool) for record in records]
    source = "questions.parquet" if steps is None else "validation/step_N.jsonl"
    for limit in _TEXT_LIMITS:
        cut = details if limit is None else [_cut(detail, limit, source) for detail in details]
        chunks = [_pack(cut[i : i + CHUNK]) for i in range(0, len(cut), CHUNK)]
        encoded = EncodedTrajectories(index, chunks, limit)
        if encoded.size <= size_limit:
            break
    return encoded


def index_of(
    records: Sequence[RoutedRecord], rule: RewardRule, steps: Sequence[int] | None = None
) -> dict[str, Any]:
    """The index of :func:`encode`, of at least one record."""
    sources = list(dict.fromkeys(r.data_source for r in records))
    statuses = list(dict.fromkeys(r.status for r in records))
    llms, costs = llm_names(records), [r.scores.get("cost", 0.0) for r in records]
    threshold = float(np.quantile(costs, _COSTLY_QUANTILE))
    rows = {
        "uid": [r.uid for r in records],
        "sample": [r.sample_index for r in records],
        "source": [sources.index(r.data_source) for r in records],
        "status": [statuses.index(r.status) for r in records],
        "question": [r.prompt for r in records],
        "answer": [r.trajectory.answer for r in records],
        "costly": [int(cost >= threshold and cost > 0) for cost in costs],
        "calls": [[llms.index(called_llm(call)) for call in r.trajectory.calls] for r in records],
        "failed": [r.trajectory.failed_calls for r in records],
        **({} if steps is None else {"step": list(steps)}),
    }
    for name in ("em", "f1", "metric", "reward", "format", "cost", "dollars"):
        rows[name] = [_number(r.scores.get(name)) for r in records]
    return {
        "sources": sources,
        "llms": llms,
        "outcomes": [outcome.value for outcome in Outcome],
        "statuses": statuses,
        "chunk": CHUNK,
        **{name: getattr(rule, name) for name in _OF_RULE},
        "cost_bounds": _bounds(rule.scales.cost),
        "latency_bounds": _bounds(rule.scales.latency),
        "rows": rows,
    }


def detail_of(record: RoutedRecord, rule: RewardRule, pool: PoolConfig | None) -> dict[str, Any]:
    """A detail of :func:`encode`."""
    blocks = split_response(record.trajectory)
    seen = {block.call: block.text for block in blocks if block.kind == OBSERVATION}
    return {
        "gold": record.ground_truth,
        "blocks": blocks,
        "calls": [_call(call, seen.get(n)) for n, call in enumerate(record.trajectory.calls)],
        "cost_coe": rule.cost_coe_of(record),
        "branch": branch_of(record),
        "follows": follows(record, rule),
        "fault": format_fault(record, pool),
        **{name: _number(record.scores.get(name)) for name in _PARTS},
    }


def _bounds(scale: CostScale | None) -> list[float] | None:
    return None if scale is None else [scale.low**2, scale.high**2]


def _call(call: Call, observed: str | None) -> list[Any]:
    result = call.result
    is_shown = result.text is not None and result.text.strip() == (observed or "").strip()
    return [
        result.llm,
        result.outcome.value,
        result.prompt_tokens,
        result.completion_tokens,
        *map(_number, (result.cost, result.dollars, result.latency_s)),
        None if is_shown else result.text,
        call.neutralised,
        [flag for flag in ("usage_estimated", "replayed") if getattr(result, flag)],
    ]


def _cut(detail: dict[str, Any], limit: int, source: str) -> dict[str, Any]:
    def cut(text: str | None) -> str | None:
        if text is None or len(text) <= limit:
            return text
        return f"{text[:limit]} […{len(text) - limit} more characters in {source}]"

    calls = [[*call[:7], cut(call[7]), *call[8:]] for call in detail["calls"]]
    blocks = [[kind, cut(text), call] for kind, text, call in detail["blocks"]]
    return {**detail, "calls": calls, "blocks": blocks}


def _number(value: float | None) -> float | None:
    """Rounded to 7 significant digits; None for what JSON has no number for."""
    return float(f"{value:.7g}") if value is not None and math.isfinite(value) else None


def _pack(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", errors="replace"), 9)).decode()
