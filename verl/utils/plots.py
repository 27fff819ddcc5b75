"""Draws the learning curves of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_SMOOTHING = 5

# (title, y label, training metrics, validation metrics by suffix)
_PANELS: tuple[tuple[str, dict[str, str], dict[str, str]], ...] = (
    ("Reward", {"critic/score/mean": "training"}, {"val/test_score/reward/all": "validation"}),
    (
        "Task metric",
        {"critic/metric/mean": "training"},
        {"val/test_score/EM/all": "validation EM"},
    ),
    (
        "Cost per question",
        {"critic/cost/mean": "training"},
        {"val/test_score/cost/all": "validation"},
    ),
    (
        "Calls per question",
        {"env/number_of_valid_route": "training"},
        {"val/test_score/route_cnt/all": "validation"},
    ),
    ("Policy entropy (nats per token)", {"actor/entropy_loss": "training"}, {}),
    ("KL to the reference (per token)", {"critic/kl": "training"}, {}),
)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def plot_curves(metrics_file: Path, image: Path) -> None:
    """Writes ``curves.png``: raw values faint, a running mean strong, validation as dots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = read_metrics(metrics_file)
    figure, grid = plt.subplots(2, 3, figsize=(13, 6.6), constrained_layout=True)
    for axes, (title, training, validation) in zip(grid.flat, _PANELS, strict=True):
        for metric, label in training.items():
            steps, values = _series(rows, metric)
            if steps:
                axes.plot(steps, values, color="#3b6fc9", alpha=0.25, linewidth=1)
                axes.plot(steps, _running_mean(values), color="#3b6fc9", linewidth=2, label=label)
        for metric, label in validation.items():
            steps, values = _series(rows, metric)
            axes.plot(steps, values, "o:", color="#d9822b", linewidth=1.5, label=label)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("step", fontsize=9)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
    temporary = image.with_suffix(f".tmp-{os.getpid()}.png")
    figure.savefig(temporary, dpi=130)
    plt.close(figure)
    os.replace(temporary, image)


def _series(rows: list[dict[str, Any]], metric: str) -> tuple[list[int], list[float]]:
    points = [(row["step"], row[metric]) for row in rows if row.get(metric) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _running_mean(values: list[float]) -> list[float]:
    window = [values[max(0, i - _SMOOTHING + 1) : i + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in window]
