"""The tables of one router: its scores by dataset and by validation, and whom it asked.

Guarantees: estimates equal those of ``results.json``, which has no line of unseen LLMs; large
figures are means over questions, averages weigh each dataset the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from router_r1.evaluation.frames import RoutedRecord
from router_r1.evaluation.tables import DASH, TIMES, Cell, Line, Table, or_dash
from router_r1.llm_agent.trajectory import RoutedTrajectory
from verl.trainer.evaluation.records import EvaluationRecord, read_parquet
from verl.trainer.evaluation.score import RESULTS, scored_file
from verl.trainer.evaluation.summary import ALL, DatasetSummary, Estimate, summarise
from verl.utils.console import console


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
_UNSEEN = "LLMs never seen in training"
SCORES = (
    Score("em", "EM", "exact match with an accepted answer", "{:.3f}"),
    Score("f1", "F1", "token overlap with the best accepted answer", "{:.3f}"),
    Score("reward", "Reward", "mean reward", "{:.3f}"),
    Score("cost", "Cost", f"completion tokens {TIMES} $ per 1M tokens, per question", "{:.1f}"),
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
    shown = []
    for record in records:
        scores = record.scores | {_FORMAT: float(record.scores.get("format", 0.0) < 0)}
        scores = {score.column: scores[score.column] for score in SCORES if score.column in scores}
        shown.append(replace(record, scores=scores))
    return summarise(shown, "em")


def unseen_summary(
    records: Sequence[RoutedRecord], never_trained: Collection[str]
) -> DatasetSummary | None:
    """Of the questions that were offered one of the LLMs ``never_trained`` names; None if there is
    none."""
    chosen = []
    for record in records:
        offered = record.trajectory.offered
        if offered is not None and any(own in never_trained for _, own in offered.owners):
            chosen.append(record)
    return replace(summaries_of(chosen)[-1], data_source=_UNSEEN) if chosen else None


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
    summaries: Sequence[DatasetSummary],
    title: str = "",
    *,
    unseen: DatasetSummary | None = None,
    brief: bool = False,
) -> Table:
    """One line a dataset, and their average last if there are several.

    ``unseen`` is a line more; ``brief`` leaves the reward out, and intervals that are of less
    interest.
    """
    lines = {s.data_source: s for s in (summaries if len(summaries) > 2 else summaries[:1])}
    if ALL in lines:
        lines["average over datasets"] = lines.pop(ALL)
    if unseen is not None:
        lines[unseen.data_source] = unseen
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
    bare = _WITHOUT_INTERVAL if brief else ()
    for name, summary in summaries.items():
        count = f"{summary.prompts:,} questions"
        if summary.samples != summary.prompts:
            count += f" {TIMES} {summary.samples / summary.prompts:.3g}"
        estimates = ((s, summary.estimates.get(s.column)) for s in scores)
        cells = [s.show(e, interval=s.column not in bare) if e else DASH for s, e in estimates]
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
    unseen = None
    if never_trained := results.get("never_trained"):
        records = read_parquet(scored_file(folder, RoutedTrajectory), RoutedTrajectory)
        unseen = unseen_summary(records, never_trained)
    title = f"{results['model']}, pool {results['pool']}"
    console.print(dataset_table(summaries, title, unseen=unseen, brief=True).on_terminal())
    console.print("[dim]small: 95% bootstrap intervals over questions[/]", highlight=False)


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
