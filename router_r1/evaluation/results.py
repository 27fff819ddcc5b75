"""The table of an evaluation: what ``bash test.sh`` shows in the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from verl.trainer.evaluation.score import RESULTS
from verl.utils.console import console

# Column title, score, factor.
_COLUMNS = (
    ("EM", "em", 1.0),
    ("F1", "f1", 1.0),
    ("cost", "cost", 1.0),
    ("$/1k questions", "dollars", 1000.0),
    ("calls", "route_cnt", 1.0),
    ("turns", "num_turns", 1.0),
    ("bad format", "format_failure", 1.0),
)


def print_results(folder: Path) -> None:
    """Means by dataset with 95% bootstrap intervals; pass@k where questions were sampled."""
    results = json.loads((folder / RESULTS).read_text())
    sampled = [
        (name, name, 1.0)
        for name in results["summaries"][0]["estimates"]
        if name.startswith(("pass@", "avg@"))
    ]
    table = Table(title=f"{results['model']}, pool {results['pool']}", title_justify="left")
    table.add_column("dataset")
    table.add_column("questions", justify="right")
    columns = [*_COLUMNS, *sampled]
    for title, _, _ in columns:
        table.add_column(title, justify="right")
    for summary in results["summaries"]:
        last = summary is results["summaries"][-1]
        if last and len(results["summaries"]) == 2:
            break  # one dataset: its average is itself
        if last:
            table.add_section()
        cells = [_cell(summary["estimates"].get(score), factor) for _, score, factor in columns]
        table.add_row(
            "average" if last else summary["data_source"],
            f"{summary['questions']:,}",
            *cells,
            style="bold" if last else "",
        )
    console.print(table)
    console.print("[dim]\\[low, high]: 95% bootstrap intervals over questions[/]", highlight=False)


def _cell(estimate: dict[str, Any] | None, factor: float) -> str:
    if estimate is None:
        return ""
    mean, low, high = values = [factor * estimate[name] for name in ("mean", "low", "high")]
    digits = 1 if max(values) >= 10 else 3
    return f"{mean:.{digits}f}\n[dim]\\[{low:.{digits}f}, {high:.{digits}f}][/]"
