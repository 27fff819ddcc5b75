"""What a finished run shows: untrained, random, best single LLM, trained, oracle; spending; and
what to try next."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Column, Table

from router_r1.config import RouterConfig
from router_r1.pool.ledger import Account, Ledger
from router_r1.reward.cost import RewardScales
from router_r1.world.knowledge import Question
from router_r1.world.oracle import Oracle, Weighing
from router_r1.world.simulated_llm import World
from verl.config.saving import KeepBestConfig
from verl.errors import UserError
from verl.task import TrainingReport, ValidationResult
from verl.utils.checkpoints import actor_to_score
from verl.utils.console import console
from verl.utils.files import write_text

SETUP_SECONDS_VARIABLE = "ROUTER_R1_SETUP_SECONDS"
_PROGRAM = "router-r1"
_ANY_QUESTION = "Who wrote the novel that the film Blade Runner is based on?"
# Figures of a row, and the reward function's columns that they are means of.
_FIGURES = {"em": "em", "f1": "f1", "cost": "cost", "calls": "route_cnt"}
_LABELS = {
    "untrained": "untrained policy",
    "random": "random routing",
    "best_single": "best single LLM",
    "trained": "trained router",
    "oracle": "oracle",
}


def write_summary(
    report: TrainingReport,
    config: RouterConfig,
    cold_start_seconds: float,
    ledger: Ledger,
    scales: RewardScales,
) -> None:
    """Writes ``summary.json`` in the run's folder and prints the tables.

    The oracle chooses by the run's reward: its unit of cost, its weights, and ``scales``, in which
    None is the scale of random routing.

    Rows that cannot be known are null: random, best_single and oracle outside the embedded world,
    or where questions are offered members of the pool that the world does not play; best_single
    where they are offered different LLMs; untrained without a first validation, trained without a
    later one. A router of several weights of cost has a row for each, in ``by_cost_coe``; its
    oracle above is that of the least.
    """
    rows: dict[str, dict[str, float] | None] = dict.fromkeys(_LABELS)
    first, last = report.first_validation, report.last_validation
    if last is not None and last is not first:
        rows["trained"] = _measured(last)
    if first is not None:
        rows["untrained"] = _measured(first)
    best_llm, example = "", _ANY_QUESTION
    oracle: Oracle | None = None
    if config.world is not None:
        world = World(config.world, config.pool.simulated_names)
        questions = world.knowledge.questions("validation")[: config.data.val_data_num]
        example = questions[0].text
        offered = _offered(config, questions)
        if all(name in world.llms for names in offered or () for name in names):
            in_dollars = config.reward.cost_unit == "dollars"
            prompt_prices = config.pool.prompt_prices() if in_dollars else {}
            weighing = Weighing(
                scales, prompt_prices, config.reward.latency_coe, config.world.time_scale
            )
            oracle = Oracle(world, config.pool.prices(), questions, weighing, offered)
            rows["random"] = asdict(oracle.random_routing())
            rows["oracle"] = asdict(oracle.oracle(config.cost_preference.least))
            if config.offer is None:
                best_llm, best = oracle.best_single()
                rows["best_single"] = asdict(best)
    setup = float(os.environ.get(SETUP_SECONDS_VARIABLE, "0"))
    seconds = {
        "setup": setup,
        "cold_start": cold_start_seconds,
        "train": report.seconds["train"],
        "total": report.seconds["total"] + setup,
    }
    spending = {name: asdict(account) for name, account in ledger.accounts.items()}
    by_cost_coe = _by_cost_coe(last, oracle)
    summary = {**rows, "by_cost_coe": by_cost_coe, "seconds": seconds, "spending": spending}
    write_text(report.output_dir / "summary.json", json.dumps(summary, indent=2) + "\n")
    _print_table(rows, best_llm)
    if len(by_cost_coe) > 1:
        _print_by_cost_coe(by_cost_coe)
    _print_spending(ledger, config.pool.budget_usd)
    console.print(
        f"set-up {setup:.0f} s, cold start {cold_start_seconds:.0f} s, training "
        f"{seconds['train']:.0f} s, {seconds['total']:.0f} s in all; results in "
        f"{report.output_dir}/",
        highlight=False,
    )
    console.print("[bold]next[/]")
    for command, purpose in next_commands(report.output_dir, example, config.scored_best):
        console.print(f"  {purpose}:", highlight=False)
        console.print(f"    {command}", markup=False, highlight=False, soft_wrap=True)


def next_commands(
    output_dir: Path, question: str, best: KeepBestConfig | None = None
) -> list[tuple[str, str]]:
    """What to try once a router is trained: commands, ready to be copied, and what each does. In a
    run without a checkpoint there is no router to ask ``question``; ``best`` says which checkpoint
    is the router, None takes the newest."""
    program = _PROGRAM if shutil.which(_PROGRAM) else _from_here(Path(sys.prefix, "bin", _PROGRAM))
    commands = []
    with suppress(UserError):
        actor = actor_to_score(output_dir, best)
        command = [program, "ask", "--question", question, "--model_path", _from_here(actor)]
        commands.append((shlex.join(command), "ask the trained router"))
    report = [program, "report", _from_here(output_dir)]
    commands.append((shlex.join(report), "see how its answers changed, question by question"))
    return commands


def _from_here(path: Path) -> str:
    """Relative to the working directory where it lies in there."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)


def _measured(result: ValidationResult) -> dict[str, float]:
    return {figure: result.mean(column) for figure, column in _FIGURES.items()}


def _offered(config: RouterConfig, questions: Sequence[Question]) -> list[dict[str, float]] | None:
    """Price of each LLM that a validation question is offered; None if it is offered the pool."""
    offers = config.offers
    if offers is None:
        return None
    rows = (
        {"extra_info": {"index": index, "question": question.text}}
        for index, question in enumerate(questions)
    )
    return [
        {
            owner.name: shown.completion_price
            for owner, shown in zip(drawn.owners, drawn.pool.llms, strict=True)
        }
        for drawn in map(offers.of_row, rows)
    ]


def _by_cost_coe(result: ValidationResult | None, oracle: Oracle | None) -> list[dict[str, Any]]:
    """What became of the questions that were told each weight; the oracle where it is known."""
    if result is None or "cost_coe" not in result.columns:
        return []
    weights = result.columns["cost_coe"]
    rows = []
    for weight in np.unique(weights):
        told = weights == weight
        row: dict[str, Any] = {"cost_coe": float(weight), "questions": int(told.sum())}
        for name in ("em", "cost", "reward"):
            row[name] = float(result.columns[name][told].mean())
        if oracle is not None and len(weights) == len(oracle.questions):
            best = oracle.oracle(float(weight), among=told)
            row |= {"oracle_em": best.em, "oracle_cost": best.cost}
        rows.append(row)
    return rows


def _table(title: str, names: str, *figures: str) -> Table:
    """An empty table with a column of names and columns of figures."""
    columns = (Column(figure, justify="right") for figure in figures)
    return Table(names, *columns, title=title, title_justify="left")


def _print_by_cost_coe(rows: list[dict[str, Any]]) -> None:
    columns = ("questions", "EM", "cost", "reward", "oracle's EM", "its cost")
    table = _table("By what cost counts", "cost_coe", *columns)
    for row in rows:
        figures = (row.get(n) for n in ("em", "cost", "reward", "oracle_em", "oracle_cost"))
        cells = ("" if figure is None else f"{figure:.3f}" for figure in figures)
        table.add_row(f"{row['cost_coe']:g}", str(row["questions"]), *cells)
    console.print(table)


def _print_table(rows: dict[str, dict[str, float] | None], best_llm: str) -> None:
    table = _table("Validation questions", "router", "EM", "F1", "cost", "calls")
    for key, label in _LABELS.items():
        row = rows[key]
        if row is None:
            continue
        name = f"{label} ({best_llm})" if key == "best_single" else label
        style = "bold" if key == "trained" else ""
        table.add_row(name, *(f"{row[figure]:.3f}" for figure in _FIGURES), style=style)
    console.print(table)


def _print_spending(ledger: Ledger, budget_usd: float | None) -> None:
    """Every call of the run: training and validation."""
    columns = ("calls", "answered", "prompt tokens", "completion tokens", "$")
    table = _table("Spending of the whole run", "LLM", *columns)
    asked = {name: account for name, account in ledger.accounts.items() if account.calls}
    for name, account in asked.items():
        table.add_row(name, *_spending_cells(account))
    table.add_section()
    limit = "" if budget_usd is None else f", limit ${budget_usd:g}"
    table.add_row(f"all{limit}", *_spending_cells(sum(asked.values(), Account())), style="bold")
    console.print(table)


def _spending_cells(account: Account) -> tuple[str, ...]:
    counts = (account.calls, account.answered, account.prompt_tokens, account.completion_tokens)
    return (*(f"{count:,}" for count in counts), f"{account.spent_usd:.6f}")
