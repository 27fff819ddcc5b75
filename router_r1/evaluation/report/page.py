"""Puts the report together and writes it.

Guarantees: one file without external assets, there whole or not at all; the page's policy forbids
every script but its own and every request; all text of the evaluation is escaped or encoded.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from router_r1.evaluation.report import headline
from router_r1.evaluation.report.comparisons import comparison_section, published_section
from router_r1.evaluation.report.curves import learning_section
from router_r1.evaluation.report.inputs import ReportInputs, read_inputs, read_run
from router_r1.evaluation.report.markup import Markup, join, tag
from router_r1.evaluation.report.reward_rule import RewardRule, reward_rule
from router_r1.evaluation.report.routing import (
    MAX_DOMAINS,
    llm_legend,
    llm_use,
    shares_by_dataset,
    shares_by_domain,
    stacked_bars,
    use_table,
)
from router_r1.evaluation.report.trajectories import EncodedTrajectories, encode, llm_names
from router_r1.evaluation.report.validations import validations_section
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.web.page import THEME, TRAJECTORY_STYLE, inline_page
from verl.config.validation import ConfigError
from verl.trainer.evaluation.score import QUESTIONS

SIZE_LIMIT = 9_500_000  # bytes of trajectories; the page around them takes under 0.2 MB

logger = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent
FIGURES_STYLE = _FOLDER / "figures.css"


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
    if (folder / QUESTIONS).is_file():
        inputs = read_inputs(folder, run_folder or folder.resolve().parent)
    else:
        inputs = read_run(folder)
    page = build_page(inputs)
    path = folder / "report.html"
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(page, encoding="utf-8", errors="replace")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def build_page(inputs: ReportInputs) -> str:
    """The whole page as HTML."""
    rule = reward_rule(inputs.records, inputs.results)
    pool = known_pool(inputs.results.get("pool"))
    encoded = encode(inputs.records, rule, pool, SIZE_LIMIT, inputs.steps)
    if encoded.text_limit is not None:
        logger.warning("report: texts are cut to %d characters to fit", encoded.text_limit)
    sections = _sections(inputs)
    return inline_page(
        _FOLDER / "page.html",
        _FOLDER / "page.js",
        [THEME, TRAJECTORY_STYLE, FIGURES_STYLE, _FOLDER / "page.css"],
        title=inputs.name,
        facts=_facts(inputs, rule),
        contents=join(*(tag("a", name, href=f"#{key}") for key, name, _ in sections)),
        sections=join(
            *(tag("section", tag("h2", name), body, id=key) for key, name, body in sections)
        ),
        count=f"{len(inputs.newest):,}",
        data=_data(encoded),
    )


def known_pool(name: str | None) -> PoolConfig | None:
    """The pool that was used, to explain format failures; None where its file is not known."""
    try:
        return load_pool(name) if name else None
    except ConfigError:
        return None


def _facts(inputs: ReportInputs, rule: RewardRule) -> Markup:
    """What was evaluated, under the title."""
    results = inputs.results
    facts = {"model": results.get("model"), "pool": results.get("pool")}
    if inputs.steps:
        facts["after training steps"] = inputs.steps[-1]
    facts.update(results.get("sampling") or {})
    if rule.metric is not None:
        facts["reward metric"] = rule.metric
    if rule.cost_coe is not None:
        facts["cost coefficient"] = f"{rule.cost_coe:g}" + (
            " (inferred from the rewards)" if rule.inferred else ""
        )
    return join(
        *(
            tag("span", tag("b", name.replace("_", " ")), f" {value}")
            for name, value in facts.items()
            if value is not None
        )
    )


def _sections(inputs: ReportInputs) -> list[tuple[str, str, Markup]]:
    """(id, name, content) of what there are figures for."""
    summaries = headline.summaries(inputs.newest)
    sections = [
        (
            "results",
            "Results",
            join(
                headline.cards(summaries),
                tag("div", headline.table(summaries), class_="scroll"),
                tag(
                    "p",
                    "Small figures: 95% bootstrap intervals over questions. Large ones: the "
                    "average over datasets, each weighing the same.",
                    class_="note",
                ),
            ),
        )
    ]
    if inputs.comparison is not None and inputs.comparison.rows:
        sections.append(("comparison", "Comparison", comparison_section(inputs.comparison)))
    by_step = inputs.by_step
    if len(by_step) > 1:
        sections.append(("validations", "Validations", validations_section(by_step)))
    curves = learning_section(inputs.metrics)
    if curves is not None:
        sections.append(("learning", "Learning", curves))
    sections.append(("routing", "Routing", _routing(inputs)))
    published = published_section(summaries)
    if published is not None:
        sections.append(("published", "Published figures", published))
    return sections


def _routing(inputs: ReportInputs) -> Markup:
    records = inputs.newest
    llms = llm_names(inputs.records)
    by_domain = shares_by_domain(records)
    parts = [
        llm_legend(llms),
        tag("h3", "Calls by dataset"),
        stacked_bars(shares_by_dataset(records), llms),
    ]
    if by_domain:
        note = (
            "The n-th call of a question counts for the n-th of its domains; at most the "
            f"{MAX_DOMAINS} domains with the most calls are shown."
        )
        parts += [
            tag("h3", "Calls by domain"),
            stacked_bars(by_domain, llms),
            tag("p", note, class_="note"),
        ]
    parts += [
        tag("h3", "Calls by LLM"),
        tag("div", use_table(llm_use(records, llms), llms), class_="scroll"),
    ]
    return join(*parts)


def _data(encoded: EncodedTrajectories) -> Markup:
    """The trajectories, in elements that no browser runs or shows."""
    chunks = [("index", encoded.index)]
    chunks += [(f"chunk-{number}", chunk) for number, chunk in enumerate(encoded.chunks)]
    return Markup(
        "\n".join(
            f'<script type="application/octet-stream" id="{name}">{text}</script>'
            for name, text in chunks
        )
    )
