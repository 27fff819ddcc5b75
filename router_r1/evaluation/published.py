"""Figures of the Router-R1 paper, to stand beside ours; none of them was measured here.

``published.csv`` is transcribed from Zhang, Feng and You, *Router-R1* (NeurIPS 2025, arXiv
2506.09033): EM in [0, 1], and cost per question in completion tokens x $ per 1M tokens, where the
paper gives it. Policy Qwen2.5-3B-Instruct unless a row says otherwise; trained on NQ and HotpotQA;
500 test questions a benchmark, Bamboogle 125.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

SOURCE = "Zhang, Feng and You, NeurIPS 2025, arXiv 2506.09033"
BENCHMARKS = ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle")


@dataclass(frozen=True)
class PublishedRow:
    """One method's figures, as the paper calls it; ``em`` and ``cost`` by benchmark."""

    method: str
    em: dict[str, float]
    cost: dict[str, float]

    @property
    def is_router_r1(self) -> bool:
        """Whether the row is the paper's own method."""
        return self.method.startswith("Router-R1")


def published_rows() -> list[PublishedRow]:
    """All methods, in the paper's order; Router-R1's other cost coefficients last."""
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8") as file:
        return [
            PublishedRow(line["method"], _figures(line, "em "), _figures(line, "cost "))
            for line in csv.DictReader(file)
        ]


def _figures(line: dict[str, str], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): float(value)
        for name, value in line.items()
        if name.startswith(prefix) and value
    }
