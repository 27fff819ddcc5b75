"""The headline figures: summed up from the records themselves, with 95% intervals.

Guarantees: the estimates are those of :func:`verl.trainer.evaluation.summary.summarise`, so they
equal ``results.json``; ``format_failure`` is the share of trajectories that break a format rule,
whatever the penalty is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from router_r1.evaluation.report.markup import DASH, TIMES, Markup, join, tag
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.evaluation.summary import ALL, DatasetSummary, Estimate, summarise

FORMAT_FAILURE = "format_failure"


@dataclass(frozen=True)
class Figure:
    """A column of the table: ``scale`` and ``form`` turn a mean into what is shown."""

    column: str
    title: str
    explanation: str
    form: str
    scale: float = 1.0

    def show(self, value: float) -> str:
        """The value as text."""
        return self.form.format(value * self.scale)


_FIGURES = (
    Figure("em", "EM", "exact match with an accepted answer", "{:.3f}"),
    Figure("f1", "F1", "token overlap with the best accepted answer", "{:.3f}"),
    Figure("reward", "Reward", "mean reward", "{:.3f}"),
    Figure("cost", "Cost", f"completion tokens {TIMES} $ per 1M tokens, per question", "{:.1f}"),
    Figure("dollars", "$ / 1000", "dollars per 1000 questions", "{:.3g}", 1000.0),
    Figure("route_cnt", "Calls", "answered calls per question", "{:.2f}"),
    Figure("num_turns", "Turns", "generations per question", "{:.2f}"),
    Figure(FORMAT_FAILURE, "Format failures", "trajectories that break a rule", "{:.1f}%", 100.0),
)
_CARDS = ("em", "f1", "cost", "dollars", "route_cnt", "num_turns", FORMAT_FAILURE)


def summaries(records: Sequence[EvaluationRecord]) -> list[DatasetSummary]:
    """One per dataset and ``all``, of the scores that the table shows."""
    return summarise([replace(record, scores=_shown_scores(record)) for record in records])


def _shown_scores(record: EvaluationRecord) -> dict[str, float]:
    scores = {f.column: record.scores[f.column] for f in _FIGURES if f.column in record.scores}
    return {**scores, FORMAT_FAILURE: float(record.scores.get("format", 0.0) < 0)}


def cards(all_summaries: Sequence[DatasetSummary]) -> Markup:
    """The average over datasets, large."""
    overall = all_summaries[-1].estimates
    shown = [figure for figure in _FIGURES if figure.column in _CARDS]
    items = [
        tag(
            "div",
            tag("span", figure.title, class_="card-name"),
            tag("span", figure.show(overall[figure.column].mean), class_="card-value"),
            tag("span", _interval(figure, overall[figure.column]), class_="card-interval"),
            class_="card",
            title=figure.explanation,
        )
        for figure in shown
        if figure.column in overall
    ]
    return tag("div", *items, class_="cards")


def table(all_summaries: Sequence[DatasetSummary]) -> Markup:
    """One row a dataset, the average last; each cell the mean and its interval."""
    shown = _columns(all_summaries)
    datasets = all_summaries if len(all_summaries) > 2 else all_summaries[:1]
    body = []
    for summary in datasets:
        is_average = summary.data_source == ALL
        count = f"{summary.questions:,}"
        if summary.samples != summary.questions:
            count += f" {TIMES} {summary.samples / summary.questions:.3g}"
        name = "average over datasets" if is_average else summary.data_source
        body.append(_row(name, count, summary, shown, "total" if is_average else None))
    return tag("table", _head("dataset", "questions", shown), tag("tbody", *body))


def step_table(by_step: Mapping[int, Sequence[EvaluationRecord]]) -> Markup:
    """One row a validation of a run, each the average over its datasets."""
    averages = {step: summaries(records)[-1] for step, records in by_step.items()}
    shown = _columns(list(averages.values()))
    body = [
        _row(f"step {step}", f"{summary.questions:,}", summary, shown)
        for step, summary in averages.items()
    ]
    return tag("table", _head("after", "questions", shown), tag("tbody", *body))


def _head(first: str, second: str, shown: Sequence[Figure]) -> Markup:
    row = tag(
        "tr",
        tag("th", first, scope="col"),
        tag("th", second, scope="col"),
        *(tag("th", figure.title, scope="col", title=figure.explanation) for figure in shown),
    )
    return tag("thead", row)


def _row(
    name: str,
    count: str,
    summary: DatasetSummary,
    shown: Sequence[Figure],
    class_: str | None = None,
) -> Markup:
    cells = [tag("td", _cell(figure, summary.estimates.get(figure.column))) for figure in shown]
    return tag("tr", tag("th", name, scope="row"), tag("td", count), *cells, class_=class_)


def _columns(all_summaries: Sequence[DatasetSummary]) -> list[Figure]:
    """The figures that are there; ``pass@k`` follows EM, which then is ``avg@k``."""
    columns = {name for summary in all_summaries for name in summary.estimates}
    sampled = sorted(name for name in columns if name.startswith("pass@"))
    passes = [Figure(name, name, "right in at least one sample", "{:.3f}") for name in sampled]
    present = [figure for figure in _FIGURES if figure.column in columns]
    return [*present[:1], *passes, *present[1:]]


def _cell(figure: Figure, estimate: Estimate | None) -> Markup:
    if estimate is None:
        return Markup(DASH)
    return join(
        tag("span", figure.show(estimate.mean), class_="mean"),
        tag("span", _interval(figure, estimate), class_="interval-text"),
    )


def _interval(figure: Figure, estimate: Estimate) -> str:
    return f"{figure.show(estimate.low)} {DASH} {figure.show(estimate.high)}"
