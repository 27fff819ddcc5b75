"""Puts the report together and writes it.

Guarantees: one file without external assets, there whole or not at all; the page's policy forbids
every script but its own and every request; all text of the evaluation is escaped or encoded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from router_r1.evaluation import frames, tables
from router_r1.evaluation.charts import HUES, comparison_svg, learning_curves
from router_r1.evaluation.published import SOURCE
from router_r1.evaluation.report.inputs import ReportInputs, read_inputs, read_run
from router_r1.evaluation.report.reward_rule import RewardRule, reward_rule
from router_r1.evaluation.report.trajectories import encode
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.web.page import FIGURES_STYLE, THEME, TRAJECTORY_STYLE, inline_page
from verl.config.validation import ConfigError
from verl.trainer.evaluation.score import scored_file
from verl.trainer.evaluation.summary import DatasetSummary
from verl.utils.files import write_text

SIZE_LIMIT = 9_500_000  # bytes of trajectories; the page around them takes under 0.4 MB

logger = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent


class Card(NamedTuple):
    """A large figure with what it is, a note below it and a hint on hover."""

    title: str
    value: str
    note: str
    hint: str = ""


def write_report(folder: Path, run_folder: Path | None = None) -> Path:
    """Writes ``folder/report.html``.

    Args:
        folder: an evaluation, with ``questions.parquet`` and what else there is of
            ``results.json`` and ``comparison.json``; or a training run with validations.
        run_folder: training run whose ``metrics.jsonl`` gives an evaluation's learning curves; by
            default the folder that holds ``folder``.

    Returns:
        Path of the report.

    Raises:
        verl.errors.UserError: if a file is missing or cannot be used.
    """
    if (scored_file(folder, RoutedTrajectory)).is_file():
        inputs = read_inputs(folder, run_folder or folder.resolve().parent)
    else:
        inputs = read_run(folder)
    path = folder / "report.html"
    write_text(path, build_page(inputs), errors="replace")
    return path


def build_page(inputs: ReportInputs) -> str:
    """The whole page as HTML."""
    rule = reward_rule(inputs.records, inputs.results)
    pool = known_pool(inputs.results.get("pool"))
    encoded = encode(inputs.records, rule, pool, SIZE_LIMIT, inputs.steps)
    if encoded.text_limit is not None:
        logger.warning("report: texts are cut to %d characters to fit", encoded.text_limit)
    summaries = tables.summaries_of(inputs.newest)
    llms = frames.llm_names(inputs.records)
    colours = llm_colours(llms)
    return inline_page(
        _FOLDER / "page.html",
        _FOLDER / "page.js",
        [THEME, TRAJECTORY_STYLE, FIGURES_STYLE, _FOLDER / "page.css"],
        title=inputs.name,
        facts=_facts(inputs, rule),
        count=len(inputs.newest),
        colours=colours,
        results={"cards": _cards(summaries), "table": tables.dataset_table(summaries)},
        comparison=_comparison(inputs),
        validations=_validations(inputs, llms),
        learning=learning_curves(inputs.metrics),
        routing=_routing(inputs, colours),
        published=tables.published_table(summaries),
        source=SOURCE,
        index=encoded.index,
        chunks=encoded.chunks,
    )


def known_pool(name: str | None) -> PoolConfig | None:
    """The pool that was used, to explain format failures; None where its file is not known."""
    try:
        return load_pool(name) if name else None
    except ConfigError:
        return None


def llm_colours(llms: Sequence[str]) -> dict[str, str]:
    """The CSS class of each LLM's colour, the same all over the page."""
    return {
        llm: "llm-none" if llm == frames.UNKNOWN_LLM else f"llm-{number % HUES}"
        for number, llm in enumerate(llms)
    }


def _facts(inputs: ReportInputs, rule: RewardRule) -> dict[str, object]:
    """What was evaluated, under the title."""
    results = inputs.results
    sampling = results.get("sampling") or {}
    coefficient = None if rule.cost_coe is None else f"{rule.cost_coe:g}"
    if coefficient is not None and rule.inferred:
        coefficient += " (inferred from the rewards)"
    return {
        "model": results.get("model"),
        "pool": results.get("pool"),
        "after training steps": inputs.steps[-1] if inputs.steps else None,
        **{name.replace("_", " "): value for name, value in sampling.items()},
        "reward metric": rule.metric,
        "cost coefficient": coefficient,
    }


def _cards(summaries: Sequence[DatasetSummary]) -> list[Card]:
    """The average over datasets, large."""
    estimates = summaries[-1].estimates
    return [
        Card(score.title, shown.text, shown.small, score.explanation)
        for score in tables.SCORES
        if score.column in estimates and score.column != "reward"
        for shown in [score.show(estimates[score.column])]
    ]


def _comparison(inputs: ReportInputs) -> dict[str, Any] | None:
    """Our router beside the baselines measured on the same questions."""
    comparison = inputs.comparison
    if comparison is None or not comparison.rows:
        return None
    return {"chart": comparison_svg(comparison), "tables": tables.comparison_tables(comparison)}


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
        "table": tables.step_table(by_step),
        "changes": frames.changes(by_step[first], by_step[last]),
        "calls": calls.rename(index="step {}".format),
    }


def _routing(inputs: ReportInputs, colours: dict[str, str]) -> dict[str, Any]:
    """Who was asked, and how the calls ended."""
    calls, llms = frames.calls_frame({0: inputs.newest}), list(colours)
    return {
        "by_source": frames.calls_by(calls, "source", llms),
        "by_domain": frames.calls_by_domain(calls, llms),
        "max_domains": frames.MAX_DOMAINS,
        "use": tables.use_table(frames.llm_use(calls, llms), colours),
    }
