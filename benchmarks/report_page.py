"""Measures the evaluation report of 10k trajectories: building, size, opening in Chromium.

``python -m benchmarks.report_page [--count N] [--opens N]``; the claim is at most 10 MB, and at
most 2 s from the navigation to a usable page.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from router_r1.evaluation.report.page import write_report
from router_r1.pool.loading import load_pool
from tests.integration.chromium import Page, chromium, chromium_path
from tests.world_records import large_world, world_records
from verl.trainer.evaluation.records import write_parquet
from verl.utils.console import console


async def opening_times(devtools: str, report: Path, fragment: str, opens: int) -> list[int]:
    """Milliseconds of each of ``opens`` openings, each in a fresh tab."""
    times = []
    for _ in range(opens):
        async with Page(devtools) as page:
            times.append(await page.open_report(report, fragment))
    return times


def measure(count: int = 10_000, opens: int = 5) -> dict[str, float]:
    """Builds, opens and prints the figures; those of opening only where there is a Chromium."""
    records = world_records(large_world(), load_pool("embedded"), count)
    medians = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_parquet(folder / "questions.parquet", records)
        start = time.monotonic()
        report = write_report(folder)
        built = time.monotonic() - start
        size = report.stat().st_size / 1e6
        console.print(f"{count:,} trajectories: built in {built:.1f} s, {size:.2f} MB")
        figures = {"build the page": built, "size of the page": size}
        if chromium_path() is None:
            console.print("no Chromium on this machine: the page is not opened")
            return figures
        with chromium() as devtools:
            for view in ("overview", "trajectories"):
                times = asyncio.run(opening_times(devtools, report, f"#{view}", opens))
                medians.append(statistics.median(times) / 1000)
                console.print(
                    f"{view}: median {1000 * medians[-1]:.0f} ms, slowest {max(times)} ms"
                )
    return figures | {"open the page": max(medians)}


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="trajectories")
    parser.add_argument("--opens", type=int, default=5, help="openings measured a view")
    arguments = parser.parse_args()
    measure(arguments.count, arguments.opens)


if __name__ == "__main__":
    main()
