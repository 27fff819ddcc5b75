"""The table of an evaluation: what ``bash test.sh`` shows in the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from verl.trainer.evaluation.score import RESULTS
from verl.utils.console import console

# Title, score, factor, digits, whether the interval is shown.
_COLUMNS = (
    ("EM", "em", 1.0, 3, True),
    ("F1", "f1", 1.0, 3, True),
    ("cost", "cost", 1.0, 1, True),
    ("$ per\n1000", "dollars", 1000.0, 4, True),
    ("calls", "route_cnt", 1.0, 2, False),
    ("turns", "num_turns", 1.0, 2, False),
    ("bad\nformat", "format_failure", 1.0, 3, False),
)


def print_results(folder: Path) -> None:
    """Means by dataset with 95% bootstrap intervals; pass@k where questions were sampled.

    With the names of the paper's seven benchmarks it fits into the 120 columns of a log.
    """
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    columns = [*_COLUMNS]
    for name in results["summaries"][0]["estimates"]:
        if name.startswith("avg@"):  # of k samples: the EM's other name
            columns[0] = (f"EM\n{name}", "em", 1.0, 3, True)
        elif name.startswith("pass@"):
            columns.append((name, name, 1.0, 3, True))
    table = Table(title=f"{results['model']}, pool {results['pool']}", title_justify="left")
    table.add_column("dataset", overflow="fold")
    for title, *_ in columns:
        table.add_column(title, justify="right", overflow="fold")
    for summary in results["summaries"]:
        last = summary is results["summaries"][-1]
        if last and len(results["summaries"]) == 2:
            break  # one dataset: its average is itself
        if last:
            table.add_section()
        cells = [
            _cell(summary["estimates"].get(score), factor, digits, interval)
            for _, score, factor, digits, interval in columns
        ]
        name = "average" if last else summary["data_source"]
        questions = f"{summary['questions']:,} questions"
        table.add_row(f"{name}\n[dim]{questions}[/]", *cells, style="bold" if last else "")
    console.print(table)
    console.print("[dim]small: 95% bootstrap intervals over questions[/]", highlight=False)


def _cell(estimate: dict[str, Any] | None, factor: float, digits: int, interval: bool) -> str:
    if estimate is None:
        return ""
    mean, low, high = (f"{factor * estimate[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean}\n[dim]{low}–{high}[/]" if interval else mean  # noqa: RUF001
