"""Every table of an evaluation: made once, shown on the terminal or in a page.

Guarantees: estimates are those of :func:`verl.trainer.evaluation.summary.summarise`, so they equal
``results.json``; large figures are means over questions, averages weigh each dataset the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich import table as rich

from router_r1.evaluation.charts import pareto_front, place_of
from router_r1.evaluation.comparison import KINDS, Comparison, Means, SweepPoint
from router_r1.evaluation.frontier import CPT_SHARES, Point, trade_offs
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.evaluation.score import RESULTS
from verl.trainer.evaluation.summary import ALL, DatasetSummary, Estimate, summarise
from verl.utils.console import console

DASH = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_KIND_STYLES = {"router": "bold green", "prompt": "cyan", "oracle": "yellow", "learned": "blue"}


class Card(NamedTuple):
    """A large figure with what it is, a note below it and a hint on hover."""

    title: str
    value: str
    note: str
    hint: str = ""


class Cell(NamedTuple):
    """A text, what stands small below it, and its CSS class."""

    text: str
    small: str = ""
    style: str = ""


class Line(NamedTuple):
    """A row of a table: its head, with ``small`` below it and ``badge`` behind it, and the cells.

    ``style`` is a CSS class, of which the terminal makes ``total`` bold; ``mark`` is that of a
    patch of colour before the name; where ``kind`` changes, the terminal draws a line.
    """

    name: str
    cells: Sequence[str | Cell]
    style: str = ""
    small: str = ""
    mark: str = ""
    badge: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table; ``columns`` are the titles, the first that of the names, with explanations."""

    title: str
    columns: Mapping[str, str]
    lines: Sequence[Line]
    caption: str = ""

    def on_terminal(self) -> rich.Table:
        """For :mod:`rich`."""
        table = rich.Table(title=self.title, title_justify="left", caption_justify="left")
        table.caption = self.caption or None
        for number, title in enumerate(self.columns):
            table.add_column(title, justify="right" if number else "left", overflow="fold")
        for line, below in zip(self.lines, [*self.lines[1:], None], strict=True):
            texts = []
            for cell in (Cell(line.name, line.small), *line.cells):
                text, small = (cell, "") if isinstance(cell, str) else cell[:2]
                texts.append(f"{text}\n[dim]{small}[/]" if small else text)
            style = "bold" if line.style == "total" else _KIND_STYLES.get(line.kind, "")
            ends = below is not None and below.kind != line.kind
            table.add_row(*texts, style=style, end_section=ends)
        return table


def or_dash(value: float | None, form: Callable[[float], str]) -> str:
    """A dash for a figure that is not there."""
    return DASH if value is None or math.isnan(value) else form(value)


# -- the scores of one router --------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """A score that is shown: its mean times ``scale``, in ``form``, with its interval."""

    column: str
    title: str
    explanation: str
    form: str
    scale: float = 1.0

    def show(self, estimate: Estimate, *, interval: bool = True) -> Cell:
        """The mean, and the interval below it."""
        ends = (estimate.mean, estimate.low, estimate.high)
        mean, low, high = (self.form.format(value * self.scale) for value in ends)
        return Cell(mean, f"{low}{DASH}{high}" if interval else "")


_FORMAT = "format_failure"
SCORES = (
    Score("em", "EM", "exact match with an accepted answer", "{:.3f}"),
    Score("f1", "F1", "token overlap with the best accepted answer", "{:.3f}"),
    Score("reward", "Reward", "mean reward", "{:.3f}"),
    Score("cost", "Cost", f"completion tokens {_TIMES} $ per 1M tokens, per question", "{:.1f}"),
    Score("dollars", "$ / 1000", "dollars per 1000 questions", "{:.3g}", 1000.0),
    Score("route_cnt", "Calls", "answered calls per question", "{:.2f}"),
    Score("num_turns", "Turns", "generations per question", "{:.2f}"),
    Score(_FORMAT, "Format failures", "trajectories that break a rule", "{:.1f}%", 100.0),
)
_WITHOUT_INTERVAL = ("route_cnt", "num_turns", _FORMAT)  # on the terminal, to save room


def summaries_of(records: Sequence[EvaluationRecord]) -> list[DatasetSummary]:
    """One per dataset and ``all``, of the scores that are shown.

    ``format_failure`` is the share of trajectories that break a format rule, whatever the penalty.
    """
    columns = [score.column for score in SCORES]
    shown = []
    for record in records:
        scores = {name: record.scores[name] for name in columns if name in record.scores}
        scores[_FORMAT] = float(record.scores.get("format", 0.0) < 0)
        shown.append(replace(record, scores=scores))
    return summarise(shown, "em")


def _shown_scores(summaries: Sequence[DatasetSummary]) -> list[Score]:
    """The scores that are there; ``pass@k`` follows EM, which then is ``avg@k``."""
    columns = sorted({name for summary in summaries for name in summary.estimates})
    scores = [score for score in SCORES if score.column in columns]
    hint = "right in at least one sample"
    sampled = [Score(name, name, hint, "{:.3f}") for name in columns if "pass@" in name]
    if averages := ", ".join(name for name in columns if name.startswith("avg@")):
        scores[0] = replace(scores[0], title=f"EM ({averages})")
    return [*scores[:1], *sampled, *scores[1:]]


def dataset_table(
    summaries: Sequence[DatasetSummary], title: str = "", *, brief: bool = False
) -> Table:
    """One line a dataset, and their average last if there are several.

    ``brief`` leaves the reward out, and intervals that are of less interest.
    """
    shown = summaries if len(summaries) > 2 else summaries[:1]
    lines = {
        "average over datasets" if summary.data_source == ALL else summary.data_source: summary
        for summary in shown
    }
    return _score_table(title, "dataset", lines, _shown_scores(summaries), brief=brief)


def step_table(by_step: Mapping[int, Sequence[EvaluationRecord]]) -> Table:
    """One line a validation of a run, each the average over its datasets."""
    lines = {f"step {step}": summaries_of(records)[-1] for step, records in by_step.items()}
    return _score_table("", "after", lines, _shown_scores(list(lines.values())))


def _score_table(
    title: str,
    first: str,
    summaries: Mapping[str, DatasetSummary],
    scores: Sequence[Score],
    *,
    brief: bool = False,
) -> Table:
    lines = []
    scores = [score for score in scores if not (brief and score.column == "reward")]
    for name, summary in summaries.items():
        count = f"{summary.prompts:,} questions"
        if summary.samples != summary.prompts:
            count += f" {_TIMES} {summary.samples / summary.prompts:.3g}"
        cells = [
            score.show(estimate, interval=not (brief and score.column in _WITHOUT_INTERVAL))
            if (estimate := summary.estimates.get(score.column))
            else DASH
            for score in scores
        ]
        style = "total" if name.startswith("average") else ""
        lines.append(Line(name, cells, style, small=count, kind=style))
    return Table(title, {first: "", **{s.title: s.explanation for s in scores}}, lines)


def print_results(folder: Path) -> None:
    """Shows an evaluation's ``results.json``: means by dataset with 95% bootstrap intervals.

    With the names of the paper's seven benchmarks it fits into the 120 columns of a log.
    """
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    summaries = []
    for content in results["summaries"]:
        estimates = {name: Estimate(**values) for name, values in content["estimates"].items()}
        counts = content["questions"], content["samples"]
        summaries.append(DatasetSummary(content["data_source"], *counts, estimates))
    title = f"{results['model']}, pool {results['pool']}"
    console.print(dataset_table(summaries, title, brief=True).on_terminal())
    console.print("[dim]small: 95% bootstrap intervals over questions[/]", highlight=False)


# -- routers beside each other -------------------------------------------------------------------


def comparison_tables(comparison: Comparison) -> list[Table]:
    """One for all datasets with the sweep, one of what routers gain by trading cost for EM, one of
    what the sweep changes, one for each dataset.
    """
    rows = sorted(comparison.rows, key=lambda r: (list(KINDS).index(r.kind), r.total.em))
    whole = [(row.name, row.kind, row.total) for row in rows]
    whole += [(f"router at cost_coe {p.cost_coe:g}", "router", p.total) for p in comparison.sweep]
    best = pareto_front(comparison)
    tables = [_means_table(f"{comparison.title}: all datasets", whole, best)]
    tables += _trade_off_tables(comparison)
    if len(comparison.sweep) > 1:
        tables.append(_changes_table(comparison.sweep))
    sources = dict.fromkeys(source for row in comparison.rows for source in row.by_source)
    for source in sources if len(sources) > 1 else ():
        there = [row for row in rows if source in row.by_source]
        means = [(row.name, row.kind, row.by_source[source]) for row in there]
        tables.append(_means_table(source, means))
    return tables


def _means_table(
    title: str,
    rows: Sequence[tuple[str, str, Means]],
    best: Sequence[tuple[float, float]] = (),
) -> Table:
    lines = []
    for name, kind, m in rows:
        measured = m.em_low is not None and m.em_high is not None
        cells: list[str | Cell] = [
            kind,
            Cell(f"{m.em:.3f}", f"{m.em_low:.3f}{DASH}{m.em_high:.3f}" if measured else ""),
            or_dash(m.f1, "{:.3f}".format),
            f"{m.cost:.2f}",
            f"{m.dollars * 1000:.4f}",
            f"{m.calls:.2f}",
        ]
        is_best = kind != "oracle" and measured and place_of(m) in best
        style, mark = "ours" if kind == "router" else "", f"kind-{kind}"
        lines.append(Line(name + " ◂" * is_best, cells, style, mark=mark, kind=kind))
    note = f"Small: 95% interval of what was measured. Cost: completion tokens {_TIMES} $ per 1M."
    note += " ◂: nothing is better for fewer dollars." if best else ""
    titles = ("router", "kind", "EM", "F1", "cost", "$ / 1000", "calls")
    return Table(title, dict.fromkeys(titles, ""), lines, note)


def _trade_off_tables(comparison: Comparison) -> list[Table]:
    """One of :mod:`router_r1.evaluation.frontier`'s measures, in dollars; none without single LLMs
    that cost something.
    """
    measured = [row for row in comparison.rows if row.total.em_low is not None]
    singles = [_point(row.total) for row in measured if row.kind == "single"]
    if not any(point.cost for point in singles):
        return []
    routers = [("single LLMs, mixed", singles)]
    routers += [
        (row.name, [_point(row.total)]) for row in measured if row.kind not in ("single", "oracle")
    ]
    routers.append(("routers of the sweep", [_point(p.total) for p in comparison.sweep]))
    routers.append(("oracles", [_point(row.total) for row in measured if row.kind == "oracle"]))
    routers = [(name, points) for name, points in routers if points]
    lines = [
        Line(
            name,
            [
                f"{m.aiq:.3f}",
                *(or_dash(share, "{:.0%}".format) for share in (m.cost_save, *m.cpt)),
                f"{m.distance:.3f}",
            ],
        )
        for (name, _), m in zip(
            routers, trade_offs([points for _, points in routers], singles), strict=True
        )
    ]
    explained = {
        "router": "",
        "AIQ": "mean EM over the costs from 0 to the dearest",
        "saved": "of the best single LLM's dollars, at its EM",
        **{f"CPT({share:.0%})": f"dollars for {share:.0%} of its gain" for share in CPT_SHARES},
        "below": "EM below the frontier of all that is compared, at the same dollars",
    }
    note = "AIQ: mean EM over the dollars from 0 to the dearest. Saved: of the best single LLM's "
    note += "dollars, at its EM. CPT(x): share of its dollars that brings x of its gain over the "
    note += "worst LLM. Below: EM below the frontier of all that is compared."
    return [Table("What trading cost for EM gains", explained, lines, note)]


def _point(means: Means) -> Point:
    return Point(means.dollars, means.em)


def _changes_table(sweep: Sequence[SweepPoint]) -> Table:
    titles = ("cost_coe", "cost per question", "95% interval, paired", "EM")
    lines = []
    for before, after in pairwise(sweep):
        if (change := after.cost_change) is not None:
            interval = f"{change.low:+.3f} to {change.high:+.3f}"
            cells = [f"{change.mean:+.3f}", interval, f"{after.total.em - before.total.em:+.3f}"]
            lines.append(Line(f"{before.cost_coe:g} to {after.cost_coe:g}", cells))
    return Table("What weighing cost more changes", dict.fromkeys(titles, ""), lines)


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


def use_table(use: pd.DataFrame, colours: Mapping[str, str]) -> Table:
    """What :func:`router_r1.evaluation.frames.llm_use` says, with each LLM's colour."""
    titles = ("LLM", "calls", "share", "share of cost", "failed", "tokens", "median latency")
    lines = []
    for llm in use.itertuples():
        failed = f"{llm.failed:,}" + (f" ({llm.failed / llm.calls:.1%})" if llm.failed else "")
        cells: list[str | Cell] = [f"{llm.calls:,}", f"{llm.share:.1%}", f"{llm.cost_share:.1%}"]
        cells.append(Cell(failed, style="bad" if llm.failed else ""))
        cells += [f"{llm.tokens:.1f}", or_dash(llm.latency_s, "{:.3g} s".format)]
        lines.append(Line(llm.Index, cells, mark=colours[llm.Index]))
    return Table("", dict.fromkeys(titles, ""), lines)
