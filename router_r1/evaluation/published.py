"""Figures of the Router-R1 paper beside ours, none of them measured here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from router_r1.evaluation.tables import Line, Table, or_dash
from verl.trainer.evaluation.summary import DatasetSummary


def published_figures() -> pd.DataFrame:
    """Figures of the Router-R1 paper, none of them measured here: a line a method, as it calls it.

    Transcribed from Zhang, Feng and You, *Router-R1* (NeurIPS 2025, arXiv 2506.09033). Columns
    are ``em NAME``, in [0, 1], and ``cost NAME``, completion tokens x $ per 1M a question; NaN
    where it gives none. Policy Qwen2.5-3B-Instruct unless a line says otherwise; trained on NQ and
    HotpotQA; 500 test questions a benchmark, Bamboogle 125.
    """
    return pd.read_csv(Path(__file__).with_name("published.csv"), index_col="method")


def published_table(summaries: Sequence[DatasetSummary]) -> Table | None:
    """Published EM and cost beside ours, for the benchmarks that both have; None without one."""
    published = published_figures()
    ours = {
        column: summary.estimates[name].mean
        for name in ("em", "cost")
        for summary in summaries
        if (column := f"{name} {summary.data_source}") in published
    }
    if not ours:
        return None
    lines: list[Line] = []
    ours_first = pd.concat([pd.DataFrame(ours, ["this evaluation"]), published[list(ours)]])
    for method, row in ours_first.iterrows():
        badge = "published" if lines else "ours"
        if row.filter(regex="^em ").notna().any():
            forms = ["{:.3f}" if column.startswith("em") else "{:.1f}" for column in ours]
            cells = [or_dash(v, form.format) for v, form in zip(row, forms, strict=True)]
            style = f"{badge} strong" if str(method).startswith("Router-R1") else badge
            lines.append(Line(str(method), cells, style, badge=badge))
    titles = [column.replace("em ", "EM ") for column in ours]
    return Table("", dict.fromkeys(["method", *titles], ""), lines)
