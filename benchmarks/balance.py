"""How much longer the slowest rank works than the mean one, by tokens, with and without balance.

    .venv/bin/python benchmarks/balance.py [outputs/<run>]

Lengths are those of a run's trajectories (of its validations and samples, by characters),
resampled; without a run they are drawn from a log-normal distribution like that of multi-turn chats
(median 665 tokens, at most 8192). A step is a mini-batch of 64 or 256 trajectories over 2 to 16
ranks, and each rank's micro-batches of at most 16384 tokens. Prints the dearest part over the mean,
averaged over steps, and the worst step beside the least that any division could reach there: a
trajectory is not divided.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from rich.table import Table

from verl.utils.balance import balanced_order
from verl.utils.console import console
from verl.utils.sequence_packing import micro_batches_by_tokens

STEPS = 50
MAX_TOKENS = 16384
CHARACTERS_PER_TOKEN = 4


def run_lengths(run: Path) -> np.ndarray:
    """Lengths of what a run has written down, tokens; the prompt counts as its text."""
    lines = [
        json.loads(line)
        for folder in ("validation", "samples")
        for file in sorted((run / folder).glob("step_*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    characters = [len(str(line.get("question"))) + len(line["response_text"]) for line in lines]
    return np.array([max(1, count // CHARACTERS_PER_TOKEN) for count in characters])


def drawn_lengths() -> np.ndarray:
    """Lengths like those of multi-turn chats, tokens."""
    drawn = np.random.default_rng(0).lognormal(6.5, 0.9, 20_000)
    return np.clip(drawn, 64, 8192).astype(np.int64)


def ratio(totals: list[int]) -> float:
    """The largest over the mean."""
    return max(totals) * len(totals) / sum(totals)


def pieces(lengths: np.ndarray, order: list[int], ranks: int) -> list[list[int]]:
    """Each rank's lengths."""
    size = len(order) // ranks
    return [[int(lengths[i]) for i in order[r * size : (r + 1) * size]] for r in range(ranks)]


def longest_with_shortest(lengths: np.ndarray, ranks: int) -> int:
    """Tokens of the longest trajectory with as many of the shortest as fill its rank."""
    ordered = np.sort(lengths)
    return int(ordered[-1] + ordered[: len(lengths) // ranks - 1].sum())


def measure(run: Path | None = None) -> dict[str, float]:
    """Prints a table; the figures of 256 trajectories over 8 ranks."""
    lengths = drawn_lengths() if run is None else run_lengths(run)
    figures: dict[str, float] = {}
    rng = np.random.default_rng(1)
    spread = f"median {np.median(lengths):.0f}, 95% {np.percentile(lengths, 95):.0f} tokens"
    table = Table(title=f"slowest over mean, {STEPS} steps each; {spread}")
    for column in (
        "trajectories",
        "ranks",
        "by count",
        "balanced",
        "worst",
        "least",
        "micro-batches",
        "ms",
    ):
        table.add_column(column, justify="right")
    for size in (64, 256):
        for ranks in (2, 4, 8, 16):
            plain, even, least, micro, seconds = [], [], [], [], 0.0
            for _ in range(STEPS):
                step = rng.choice(lengths, size)
                plain.append(ratio([sum(p) for p in pieces(step, list(range(size)), ranks)]))
                start = time.perf_counter()
                order = balanced_order(step.tolist(), ranks)
                seconds += time.perf_counter() - start
                own = pieces(step, order, ranks)
                even.append(ratio([sum(piece) for piece in own]))
                least.append(max(1.0, longest_with_shortest(step, ranks) * ranks / step.sum()))
                groups = micro_batches_by_tokens(own[0], MAX_TOKENS, padded=False)
                micro.append(ratio([sum(own[0][i] for i in group) for group in groups]))
            table.add_row(
                *(str(size), str(ranks), f"{np.mean(plain):.3f}", f"{np.mean(even):.3f}"),
                *(f"{max(even):.3f}", f"{least[int(np.argmax(even))]:.3f}"),
                *(f"{np.mean(micro):.3f}", f"{1000 * seconds / STEPS:.1f}"),
            )
            if (size, ranks) == (256, 8):
                figures["slowest rank over mean, 256 trajectories, 8 ranks"] = float(np.mean(even))
                figures["the same, divided by count"] = float(np.mean(plain))
    console.print(table)
    return figures


def main() -> None:
    """Measures, on a run's lengths if one is named."""
    measure(Path(sys.argv[1]) if len(sys.argv) > 1 else None)


if __name__ == "__main__":
    main()
