"""Puts the report together and writes it.

Guarantees: one file without external assets, there whole or not at all; the page's policy forbids
every script but its own and every request; all text of the evaluation is escaped or encoded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from router_r1.evaluation import frames, score_tables
from router_r1.evaluation.charts import HUES, comparison_svg, learning_curves
from router_r1.evaluation.comparison_tables import comparison_tables
from router_r1.evaluation.published import published_table
from router_r1.evaluation.report.inputs import ReportInputs, read_inputs
from router_r1.evaluation.tables import Card
from router_r1.evaluation.viewer.reward_rule import RewardRule, known_pool, reward_rule
from router_r1.evaluation.viewer.trajectories import encode
from router_r1.web.page import FIGURES_STYLE, THEME, TRAJECTORY_STYLE, inline_page
from verl.trainer.evaluation.summary import DatasetSummary
from verl.utils.files import write_text

SIZE_LIMIT = 9_500_000  # bytes of trajectories; the page around them takes under 0.4 MB

logger = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent


def write_report(folder: Path, run_folder: Path | None = None) -> Path:
    """Writes ``folder/report.html`` from what :func:`read_inputs` reads; its path.

    Raises:
        verl.errors.UserError: if a file is missing or cannot be used.
    """
    path = folder / "report.html"
    write_text(path, _build_page(read_inputs(folder, run_folder)), errors="replace")
    return path


def _build_page(inputs: ReportInputs) -> str:
    rule = reward_rule(inputs.records, inputs.results)
    pool = known_pool(inputs.results.get("pool"))
    encoded = encode(inputs.records, rule, pool, SIZE_LIMIT, inputs.steps)
    if encoded.text_limit is not None:
        logger.warning("report: texts are cut to %d characters to fit", encoded.text_limit)
    newest, llms = inputs.newest, frames.llm_names(inputs.records)
    summaries = score_tables.summaries_of(newest)
    unseen = score_tables.unseen_summary(newest, inputs.results.get("never_trained", ()))
    colours = {  # CSS classes
        llm: "llm-none" if llm == frames.UNKNOWN_LLM else f"llm-{number % HUES}"
        for number, llm in enumerate(llms)
    }
    calls = frames.calls_frame({0: newest})
    compared = inputs.comparison if inputs.comparison and inputs.comparison.rows else None
    return inline_page(
        _FOLDER / "page.html",
        _FOLDER / "page.js",
        [THEME, TRAJECTORY_STYLE, FIGURES_STYLE, _FOLDER / "page.css"],
        title=inputs.name,
        facts=_facts(inputs, rule),
        count=len(newest),
        colours=colours,
        results={
            "cards": _cards(summaries),
            "table": score_tables.dataset_table(summaries, unseen=unseen),
        },
        comparison=compared
        and {"chart": comparison_svg(compared), "tables": comparison_tables(compared)},
        validations=_validations(inputs, llms),
        learning=learning_curves(inputs.metrics),
        routing={
            "by_source": frames.calls_by(calls, "source", llms),
            "by_domain": frames.calls_by_domain(calls, llms),
            "max_domains": frames.MAX_DOMAINS,
            "use": score_tables.use_table(frames.llm_use(calls, llms), colours),
        },
        published=published_table(summaries),
        index=encoded.index,
        chunks=encoded.chunks,
    )


def _facts(inputs: ReportInputs, rule: RewardRule) -> dict[str, object]:
    """What was evaluated, under the title."""
    results = inputs.results
    coefficient = None if rule.cost_coe is None else f"{rule.cost_coe:g}"
    if any(record.trajectory.cost_coe is not None for record in inputs.records):
        coefficient = coefficient or "each question's own"
    if coefficient is not None and rule.inferred:
        coefficient += " (inferred from the rewards)"
    sampling = results.get("sampling") or {}
    return {
        "model": results.get("model"),
        "pool": results.get("pool"),
        "after training steps": max(inputs.by_step, default=None),
        **{name.replace("_", " "): value for name, value in sampling.items()},
        "reward metric": rule.metric,
        "cost coefficient": coefficient,
        "cost unit": rule.cost_unit if rule.cost_unit != "completion" else None,
        "latency coefficient": f"{rule.latency_coe:g}" if rule.latency_coe else None,
        "reward form": rule.form if rule.form != "hierarchical" else None,
    }


def _cards(summaries: Sequence[DatasetSummary]) -> list[Card]:
    """The average over datasets, large."""
    estimates = summaries[-1].estimates
    return [
        Card(score.title, *score.show(estimates[score.column])[:2], score.explanation)
        for score in score_tables.SCORES
        if score.column in estimates and score.column != "reward"
    ]


def _validations(inputs: ReportInputs, llms: Sequence[str]) -> dict[str, Any] | None:
    """What changed over the validations of a run: scores, answers, and who was asked."""
    by_step = inputs.by_step
    if len(by_step) < 2:
        return None
    first, *_, last = by_step
    calls = frames.calls_by(frames.calls_frame(by_step), "step", llms)
    return {
        "first": first,
        "last": last,
        "table": score_tables.step_table(by_step),
        "changes": frames.changes(by_step[first], by_step[last]),
        "calls": calls.rename(index="step {}".format),
    }
