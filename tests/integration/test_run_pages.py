"""The pages of a training run in a real headless Chromium: its validations, and the run itself."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router_r1.evaluation.frames import changes
from router_r1.evaluation.report.page import write_report
from router_r1.pool.config import PoolConfig
from router_r1.world.simulated_llm import World
from tests.integration.chromium import Page
from tests.integration.commands import Command, start
from tests.run_files import write_samples, write_validation
from tests.world_records import HOSTILE, world_records
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trainer.run_folder import claim_run_folder

STEPS = (0, 10, 20, 30, 40)


def visit(devtools: str, url: str, steps: Callable[[Page], Awaitable[None]]) -> None:
    """Runs ``steps`` on the opened page, which may ask nobody but ``url`` and log no problem."""

    async def run() -> None:
        async with Page(devtools, width=1400, origin=url) as page:
            await page.send("Page.navigate", url=url)
            await steps(page)
            assert await page.evaluate("window.pwned") is None
            assert page.problems == []

    asyncio.run(run())


# -- validations side by side ------------------------------------------------------------------


@pytest.fixture(scope="module")
def validations(world: World, embedded_pool: PoolConfig) -> dict[int, list[EvaluationRecord]]:
    """The same questions, asked of other LLMs at each step; a few trajectories are odd."""
    return {step: world_records(world, embedded_pool, 120, seed=step) for step in STEPS}


def test_the_validations_of_a_run_stand_side_by_side(
    devtools: str, validations: dict[int, list[EvaluationRecord]], tmp_path: Path
) -> None:
    for step, records in validations.items():
        write_validation(tmp_path, step, records)
    report = write_report(tmp_path)
    expected, earlier = (changes(validations[0], validations[last]) for last in (40, 20))
    assert min(expected.became_right, expected.became_wrong) > 2, "else the test shows nothing"
    assert expected.became_wrong != earlier.became_wrong, "else a list that stays goes unseen"

    async def steps(page: Page) -> None:
        async def count() -> int:
            return int(await page.evaluate("parseInt(matches.textContent)"))

        async def press(selector: str) -> None:
            await page.evaluate(f"document.querySelector('{selector}').click()")

        await page.wait_for("document.documentElement?.dataset.ready")
        assert await count() == 120, "a row a question, not a trajectory"
        for chip, number in (
            ("gained", expected.became_right),
            ("lost", expected.became_wrong),
            ("rerouted", expected.changed_llm),
        ):
            await press(f"[data-filter={chip}]")
            assert await count() == number, chip
            await page.press("r")
        await press("[data-filter=gained]")
        await press(".row")
        await page.wait_for("document.querySelectorAll('.column').length === 3")
        heads = "[...document.querySelectorAll('.column-head h3')].map((head) => head.textContent)"
        assert await page.evaluate(heads) == ["Step 0", "Step 20", "Step 40"]
        verdicts = "['.column:first-child', '.column:last-child'].map((column) => "
        verdicts += "document.querySelector(column).classList.contains('right'))"
        assert await page.evaluate(verdicts) == [False, True]
        # Another choice of validations: the filter compares the first with the last of them.
        await press("#steps .chip:nth-of-type(5)")
        await page.wait_for("document.querySelectorAll('.column').length === 2")
        await page.press("r")
        await press("#steps .chip:nth-of-type(5)")
        await press("[data-filter=lost]")
        assert await count() == expected.became_wrong
        await press("#steps .chip:nth-of-type(5)")
        await page.wait_for(f"parseInt(matches.textContent) === {earlier.became_wrong}")

    visit(devtools, f"{report.resolve().as_uri()}#trajectories", steps)


# -- a run that is followed --------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address of the page that follows a folder which does not exist yet, and the folder."""
    folder = tmp_path / "run"
    command = start(
        *(sys.executable, "-m", "router_r1.evaluation.report", "--watch", "--port", "0"),
        str(folder),
    )
    try:
        yield command.wait_for(r"http://127\.0\.0\.1:\d+/").group(), folder
    finally:
        command.interrupt(group=False)
        assert command.finish() == 0, command.output
        assert "stopped" in command.output


@pytest.mark.engine
def test_the_page_follows_a_run_to_its_end_and_into_the_next(
    devtools: str,
    watched: tuple[str, Path],
    small_run: tuple[Command, Path],
    world: World,
    embedded_pool: PoolConfig,
) -> None:
    """The files are those of a real run, written again bit by bit."""
    url, folder = watched
    _, finished = small_run
    lines = (finished / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    first_samples = (finished / "samples" / "step_1.jsonl").read_text(encoding="utf-8")
    question = json.loads(first_samples.split("\n", 1)[0])["question"]

    def append(text: str) -> None:
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(text)

    async def steps(page: Page) -> None:
        async def phase(name: str) -> None:
            await page.wait_for(f"phase.textContent === '{name}'")

        async def shows(text: str, where: str = "overview") -> Any:
            return await page.wait_for(f"{where}.innerText.includes({json.dumps(text)})")

        await page.wait_for("document.documentElement?.dataset.version")
        await phase("not begun")
        with claim_run_folder(folder):
            await phase("starting")
            shutil.copy(finished / "config.yaml", folder)
            append(lines[0] + lines[1][:40])
            await phase("training")
            await shows("step 0 of 3")
            append(lines[1][40:])
            await shows("step 1 of 3")
            await shows("Calls per question to each LLM")
            await page.wait_for("document.title.startsWith('step 1/3')")
            shutil.copytree(finished / "samples", folder / "samples", ignore=_all_but("step_1"))
            await shows(question, "samples")
            assert await page.evaluate("document.querySelectorAll('.sample').length") == 4
            write_samples(folder, 2, [_hostile(world, embedded_pool)])
            append(lines[2])
            await shows("step 2 of 3")
            await shows(HOSTILE, "samples")
            assert await page.evaluate("document.querySelectorAll('#samples img').length") == 0
            append("".join(lines[3:]))
            shutil.copy(finished / "summary.json", folder)
            await phase("ended")
            await shows("step 3 of 3")
        with claim_run_folder(folder):  # sets the first run's files aside
            await phase("starting")
            assert await page.evaluate("samples.hidden")
            shutil.copy(finished / "config.yaml", folder)
            append(lines[0])
            await phase("training")
            await shows("step 0 of 3")

    visit(devtools, url, steps)


def _all_but(name: str) -> Callable[[Any, list[str]], list[str]]:
    return lambda _folder, names: [other for other in names if not other.startswith(name)]


def _hostile(world: World, pool: PoolConfig) -> EvaluationRecord:
    return next(r for r in world_records(world, pool, 8) if HOSTILE in r.trajectory.policy_text)
