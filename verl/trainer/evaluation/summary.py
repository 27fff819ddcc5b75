"""Sums scored records up by dataset, with confidence intervals.

Guarantees: every record counts; samples of one prompt are averaged first, so a prompt weighs
the same however often it was sampled; the same records give the same intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verl.trainer.evaluation.records import EvaluationRecord

ALL = "all"
_RESAMPLES = 1000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts and the ends of its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class DatasetSummary:
    """Estimates of one dataset.

    Attributes:
        data_source: its name; ``all`` for the average over datasets.
        prompts, samples: how many.
        estimates: by column; beside the scores, ``pass@k`` and ``avg@k`` of ``pass_column``
            where prompts were sampled k > 1 times.
    """

    data_source: str
    prompts: int
    samples: int
    estimates: dict[str, Estimate]


def summarise(
    records: Sequence[EvaluationRecord], pass_column: str | None, seed: int = 0
) -> list[DatasetSummary]:
    """A summary per dataset, in order of appearance, and ``all``: their unweighted average.

    Args:
        pass_column: the 0/1 score that ``pass@k`` is the maximum of; None for none.
        seed: of the resampling.

    Raises:
        ValueError: for no records.
    """
    if not records:
        raise ValueError("no records to summarise")
    sources = list(dict.fromkeys(record.data_source for record in records))
    rng = np.random.default_rng(seed)
    summaries, draws = [], []
    for source in sources:
        chosen = [record for record in records if record.data_source == source]
        columns = _per_prompt(chosen, pass_column)
        table = np.stack(list(columns.values()), axis=1)
        draws.append(dict(zip(columns, _bootstrap_means(table, rng).T, strict=True)))
        estimates = {
            name: _estimate(float(column.mean()), draws[-1][name])
            for name, column in columns.items()
        }
        summaries.append(DatasetSummary(source, len(table), len(chosen), estimates))
    return [*summaries, _average(summaries, draws)]


def _per_prompt(
    records: Sequence[EvaluationRecord], pass_column: str | None
) -> dict[str, np.ndarray]:
    """Each score averaged over the samples of a prompt: (prompts,) by column."""
    place: dict[str, int] = {}
    prompt = np.array([place.setdefault(record.uid, len(place)) for record in records])
    samples = np.bincount(prompt)
    values = {
        name: np.array([record.scores.get(name, 0.0) for record in records])
        for name in dict.fromkeys(name for record in records for name in record.scores)
    }
    columns = {
        name: np.bincount(prompt, weights=column) / samples for name, column in values.items()
    }
    k = int(samples.max())
    if k > 1 and pass_column is not None and pass_column in columns:
        best = np.zeros(len(place))
        np.maximum.at(best, prompt, values[pass_column])
        columns[f"pass@{k}"] = best
        columns[f"avg@{k}"] = columns[pass_column]
    return columns


def _bootstrap_means(table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of (prompts, columns) under resampling of prompts: (resamples, columns)."""
    n = len(table)
    drawn = (rng.integers(0, n, n) for _ in range(_RESAMPLES))
    return np.stack([np.bincount(rows, minlength=n) @ table / n for rows in drawn])


def _estimate(mean: float, draws: np.ndarray) -> Estimate:
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(mean, float(low), float(high))


def _average(
    summaries: Sequence[DatasetSummary], draws: Sequence[dict[str, np.ndarray]]
) -> DatasetSummary:
    estimates = {
        name: _estimate(
            float(np.mean([s.estimates[name].mean for s in summaries])),
            np.mean([draw[name] for draw in draws], axis=0),
        )
        for name in draws[0]
        if all(name in draw for draw in draws)
    }
    prompts = sum(s.prompts for s in summaries)
    samples = sum(s.samples for s in summaries)
    return DatasetSummary(ALL, prompts, samples, estimates)
