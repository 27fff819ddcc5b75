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

from router_r1.evaluation.charts import Place, pareto_front, place_of
from router_r1.evaluation.comparison import KINDS, Comparison, Means, SweepPoint
from router_r1.evaluation.published import PublishedRow, published_rows
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.evaluation.score import RESULTS
from verl.trainer.evaluation.summary import ALL, DatasetSummary, Estimate, summarise
from verl.utils.console import console

DASH = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_KIND_STYLES = {"router": "bold green", "prompt": "cyan", "oracle": "yellow", "learned": "blue"}


class Cell(NamedTuple):
    """A text, what stands small below it, and its CSS class."""

    text: str
    small: str = ""
    style: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        name: its head; ``small`` stands below it.
        cells: of the other columns.
        style: a CSS class; the terminal makes ``total`` bold.
        mark: CSS class of the colour of a patch before the name.
        badge: a word behind the name.
        kind: where it changes, the terminal draws a line.
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
        table = rich.Table(
            title=self.title,
            title_justify="left",
            caption=self.caption or None,
            caption_justify="left",
        )
        for number, title in enumerate(self.columns):
            table.add_column(title, justify="right" if number else "left", overflow="fold")
        for before, line in pairwise([None, *self.lines]):
            assert line is not None
            if before is not None and before.kind != line.kind:
                table.add_section()
            style = "bold" if line.style == "total" else _KIND_STYLES.get(line.kind, "")
            cells = [Cell(line.name, line.small), *line.cells]
            table.add_row(*map(_on_terminal, cells), style=style)
        return table


def _on_terminal(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell.text}\n[dim]{cell.small}[/]" if cell.small else cell.text


# -- the scores of one router --------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """A score that is shown: its mean times ``scale``, as ``form`` says, and its interval."""

    column: str
    title: str
    explanation: str
    form: str
    scale: float = 1.0
    has_interval: bool = True

    def show(self, estimate: Estimate) -> Cell:
        """The mean, and the interval below it."""
        ends = (estimate.mean, estimate.low, estimate.high)
        mean, low, high = (self.form.format(value * self.scale) for value in ends)
        return Cell(mean, f"{low}{DASH}{high}" if self.has_interval else "")


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


def shown_scores(summaries: Sequence[DatasetSummary]) -> list[Score]:
    """The scores that are there; ``pass@k`` follows EM, which then is ``avg@k``."""
    columns = sorted({name for summary in summaries for name in summary.estimates})
    scores = [score for score in SCORES if score.column in columns]
    sampled = [
        Score(n, n, "right in at least one sample", "{:.3f}") for n in columns if "pass@" in n
    ]
    averages = ", ".join(name for name in columns if name.startswith("avg@"))
    if averages:
        scores[0] = replace(scores[0], title=f"EM ({averages})")
    return [*scores[:1], *sampled, *scores[1:]]


def dataset_table(
    summaries: Sequence[DatasetSummary], title: str = "", scores: Sequence[Score] | None = None
) -> Table:
    """One line a dataset, and their average last if there are several; all scores if unset."""
    shown = summaries if len(summaries) > 2 else summaries[:1]
    lines = {
        "average over datasets" if summary.data_source == ALL else summary.data_source: summary
        for summary in shown
    }
    return _score_table(title, "dataset", lines, scores or shown_scores(summaries))


def step_table(by_step: Mapping[int, Sequence[EvaluationRecord]]) -> Table:
    """One line a validation of a run, each the average over its datasets."""
    lines = {f"step {step}": summaries_of(records)[-1] for step, records in by_step.items()}
    return _score_table("", "after", lines, shown_scores(list(lines.values())))


def _score_table(
    title: str, first: str, summaries: Mapping[str, DatasetSummary], scores: Sequence[Score]
) -> Table:
    lines = []
    for name, summary in summaries.items():
        count = f"{summary.prompts:,} questions"
        if summary.samples != summary.prompts:
            count += f" {_TIMES} {summary.samples / summary.prompts:.3g}"
        estimates = [summary.estimates.get(score.column) for score in scores]
        cells = [
            DASH if estimate is None else score.show(estimate)
            for score, estimate in zip(scores, estimates, strict=True)
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
    scores = [
        replace(score, has_interval=score.column not in _WITHOUT_INTERVAL)
        for score in shown_scores(summaries)
        if score.column != "reward"
    ]
    table = dataset_table(summaries, f"{results['model']}, pool {results['pool']}", scores)
    console.print(table.on_terminal())
    console.print("[dim]small: 95% bootstrap intervals over questions[/]", highlight=False)


# -- routers beside each other -------------------------------------------------------------------


_MEANS: dict[str, Callable[[Means], str | Cell]] = {
    "EM": lambda m: Cell(_shown(m.em, ".3f"), _interval(m)),
    "F1": lambda m: _shown(m.f1, ".3f"),
    "cost": lambda m: _shown(m.cost, ".2f"),
    "$ / 1000": lambda m: _shown(m.dollars * 1000, ".4f"),
    "calls": lambda m: _shown(m.calls, ".2f"),
}


def comparison_tables(comparison: Comparison) -> list[Table]:
    """One for all datasets with the sweep, one of what the sweep changes, one for each dataset."""
    rows = sorted(comparison.rows, key=lambda r: (list(KINDS).index(r.kind), r.total.em))
    whole = [(row.name, row.kind, row.total) for row in rows]
    whole += [(f"router at cost_coe {p.cost_coe:g}", "router", p.total) for p in comparison.sweep]
    best = pareto_front(comparison)
    tables = [_means_table(f"{comparison.title}: all datasets", whole, best)]
    if len(comparison.sweep) > 1:
        tables.append(_changes_table(comparison.sweep))
    for source in comparison.sources if len(comparison.sources) > 1 else ():
        there = [row for row in rows if source in row.by_source]
        means = [(row.name, row.kind, row.by_source[source]) for row in there]
        tables.append(_means_table(source, means))
    return tables


def _means_table(
    title: str, rows: Sequence[tuple[str, str, Means]], best: Sequence[Place] = ()
) -> Table:
    lines = []
    for name, kind, means in rows:
        is_best = kind != "oracle" and means.em_low is not None and place_of(means) in best
        cells = [kind, *(show(means) for show in _MEANS.values())]
        style, mark = "ours" if kind == "router" else "", f"kind-{kind}"
        lines.append(Line(name + " ◂" * is_best, cells, style, mark=mark, kind=kind))
    note = f"Small: 95% interval of what was measured. Cost: completion tokens {_TIMES} $ per 1M."
    note += " ◂: nothing is better for fewer dollars." if best else ""
    return Table(title, dict.fromkeys(["router", "kind", *_MEANS], ""), lines, note)


def _changes_table(sweep: Sequence[SweepPoint]) -> Table:
    titles = ("cost_coe", "cost per question", "95% interval, paired", "EM")
    lines = []
    for before, after in pairwise(sweep):
        if (change := after.cost_change) is not None:
            interval = f"{change.low:+.3f} to {change.high:+.3f}"
            cells = [f"{change.mean:+.3f}", interval, f"{after.total.em - before.total.em:+.3f}"]
            lines.append(Line(f"{before.cost_coe:g} to {after.cost_coe:g}", cells))
    return Table("What weighing cost more changes", dict.fromkeys(titles, ""), lines)


def published_table(summaries: Sequence[DatasetSummary]) -> Table | None:
    """Published EM and cost beside ours, for the benchmarks that both have; None without one."""
    ours = {summary.data_source: summary.estimates for summary in summaries}
    rows = published_rows()
    shared = [source for source in ours if any(source in row.em for row in rows)]
    priced = [source for source in shared if any(source in row.cost for row in rows)]
    if not shared:
        return None
    em, cost = ({s: ours[s][name].mean for s in shared} for name in ("em", "cost"))
    lines: list[Line] = []
    for row in [PublishedRow("this evaluation", em, cost), *rows]:
        badge = "published" if lines else "ours"
        if any(source in row.em for source in shared):
            cells = [_shown(row.em.get(source), ".3f") for source in shared]
            cells += [_shown(row.cost.get(source), ".1f") for source in priced]
            style = f"{badge} strong" if row.is_router_r1 else badge
            lines.append(Line(row.method, cells, style, badge=badge))
    titles = [*(f"EM {source}" for source in shared), *(f"cost {source}" for source in priced)]
    return Table("", dict.fromkeys(["method", *titles], ""), lines)


def use_table(use: pd.DataFrame, colours: Mapping[str, str]) -> Table:
    """What :func:`router_r1.evaluation.frames.llm_use` says, with each LLM's colour."""
    titles = ("LLM", "calls", "share", "share of cost", "failed", "tokens", "median latency")
    lines = []
    for llm in use.itertuples():
        failed = f"{llm.failed:,}" + (f" ({llm.failed / llm.calls:.1%})" if llm.failed else "")
        cells: list[str | Cell] = [f"{llm.calls:,}", f"{llm.share:.1%}", f"{llm.cost_share:.1%}"]
        cells.append(Cell(failed, style="bad" if llm.failed else ""))
        cells += [f"{llm.tokens:.1f}", _shown(llm.latency_s, ".3g", " s")]
        lines.append(Line(llm.Index, cells, mark=colours[llm.Index]))
    return Table("", dict.fromkeys(titles, ""), lines)


def _interval(means: Means) -> str:
    low, high = means.em_low, means.em_high
    return "" if low is None or high is None else f"{low:.3f}{DASH}{high:.3f}"


def _shown(value: float | None, form: str, unit: str = "") -> str:
    return DASH if value is None or math.isnan(value) else f"{value:{form}}{unit}"
