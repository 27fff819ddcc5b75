"""The report of 10k trajectories in a real headless Chromium."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from router_r1.evaluation.report.page import write_report
from router_r1.pool.config import PoolConfig
from router_r1.reward import combine
from tests.integration.chromium import Page
from tests.routed import call, routed
from tests.world_records import HOSTILE, large_world, world_records
from verl.trainer.evaluation.records import EvaluationRecord, write_parquet

COUNT = 10_000
MAX_BYTES = 10_000_000
# The claim is 2 s (benchmarks/report_page.py measures it); machines that run tests are busy.
MAX_OPENING_MS = 10_000


@pytest.fixture(scope="module")
def records(embedded_pool: PoolConfig) -> list[EvaluationRecord]:
    return world_records(large_world(), embedded_pool, COUNT)


@pytest.fixture(scope="module")
def report(records: list[EvaluationRecord], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval")
    write_parquet(folder / "questions.parquet", records)
    (folder / "results.json").write_text(json.dumps({"model": HOSTILE, "pool": "embedded"}))
    return write_report(folder)


def visit(devtools: str, report: Path, fragment: str, steps: Callable[[Page], Awaitable[Any]]):
    """What ``steps`` returns on the opened page, after which nothing may have gone wrong."""

    async def run() -> Any:
        async with Page(devtools) as page:
            assert await page.open_report(report, fragment) <= MAX_OPENING_MS
            result = await steps(page)
            assert await page.evaluate("window.pwned") is None
            assert page.problems == []
            return result

    return asyncio.run(run())


async def matches(page: Page) -> int:
    """How many trajectories the list shows."""
    return int(await page.evaluate("parseInt(matches.textContent.replaceAll(',', ''))"))


def test_ten_thousand_trajectories_fit(report: Path):
    assert report.stat().st_size <= MAX_BYTES


def test_filters_and_search_narrow_the_list(
    devtools: str, report: Path, records: list[EvaluationRecord], tmp_path: Path
):
    async def steps(page: Page) -> None:
        async def press_chip(name: str) -> int:
            await page.evaluate(f"document.querySelector('[data-filter={name}]').click()")
            return await matches(page)

        assert await matches(page) == COUNT
        assert await page.evaluate("document.querySelectorAll('.row').length") < 60
        wrong = [r for r in records if r.scores["em"] < 1]
        assert await press_chip("wrong") == len(wrong)
        broken = [r for r in wrong if r.scores["format"] < 0]
        assert await press_chip("format") == len(broken)
        await page.press("r")
        assert await matches(page) == COUNT
        failed = [r for r in records if r.trajectory.failed_calls]
        assert await press_chip("failed") == len(failed)
        await page.press("r")

        await page.evaluate("llm.selectedIndex = 1; llm.dispatchEvent(new Event('change'))")
        atlas = [r for r in records if r.scores["calls/Atlas"]]
        assert await matches(page) == len(atlas)
        await page.evaluate("source.selectedIndex = 2; source.dispatchEvent(new Event('change'))")
        name = await page.evaluate("source.value")
        assert await matches(page) == sum(r.data_source == name for r in atlas)
        await page.press("r")

        await page.press("/")
        await page.send("Input.insertText", text=records[0].prompt.upper())
        same = sum(r.prompt == records[0].prompt for r in records)
        await page.wait_for(f"parseInt(matches.textContent) === {same}")
        image = tmp_path / "report.png"
        await page.screenshot(image)
        assert image.stat().st_size > 10_000

    visit(devtools, report, "#trajectories", steps)


def test_keys_move_and_the_address_follows(
    devtools: str, report: Path, records: list[EvaluationRecord]
):
    async def steps(page: Page) -> None:
        await page.wait_for("document.querySelector('.question') !== null")
        for key, row in (("j", 1), ("j", 2), ("k", 1), ("ArrowDown", 2), ("End", COUNT - 1)):
            await page.press(key)
            record = records[row]
            address = f"#t/{record.uid.replace('/', '%2F')}/{record.sample_index}"
            await page.wait_for(f"location.hash === {json.dumps(address)}")
            await page.wait_for(
                f"document.querySelector('.question').textContent === {json.dumps(record.prompt)}"
            )
        selected = "document.querySelector('.row[aria-selected=true] .row-question').textContent"
        assert await page.evaluate(selected) == records[-1].prompt

    visit(devtools, report, "#trajectories", steps)


def test_an_address_opens_its_trajectory_and_hostile_text_stays_text(
    devtools: str, report: Path, records: list[EvaluationRecord]
):
    hostile = next(r for r in records if HOSTILE in r.trajectory.policy_text)

    async def steps(page: Page) -> None:
        await page.wait_for("document.querySelector('.question') !== null")
        shown = "document.querySelector('.question').textContent"
        assert await page.evaluate(shown) == hostile.prompt
        assert await page.evaluate("document.querySelector('.given').textContent") == HOSTILE
        text = await page.evaluate("document.querySelector('.observation .text').textContent")
        assert text == f"{HOSTILE} (answer)trap(/answer)"
        assert await page.evaluate("document.querySelectorAll('#detail script, img').length") == 0
        branch = await page.evaluate("document.querySelector('.reward').dataset.branch")
        assert branch == "outcome"

    fragment = f"#t/{hostile.uid.replace('/', '%2F')}/{hostile.sample_index}"
    visit(devtools, report, fragment, steps)


def test_every_kind_of_odd_trajectory_can_be_read(
    devtools: str, report: Path, records: list[EvaluationRecord]
):
    odd = [r for r in records if r.scores["format"] < 0 or r.trajectory.failed_calls]

    async def steps(page: Page) -> None:
        for record in odd:
            fragment = f"#t/{record.uid.replace('/', '%2F')}/{record.sample_index}"
            await page.evaluate(f"location.hash = {json.dumps(fragment)}")
            await page.wait_for(
                f"document.querySelector('.crumbs .mono')?.hash === {json.dumps(fragment)}"
            )
            reward = await page.evaluate("document.querySelector('.step:last-child').innerText")
            assert f"{record.scores['reward']:g}" in reward

    visit(devtools, report, "#trajectories", steps)


@pytest.mark.parametrize(
    ("form", "formula"),
    [
        ("hierarchical", "(1 - 0.4 - 0.2) · 0.5 + 0.4 · 0.25 + 0.2 · 0.75 = 0.45"),
        (
            "multiplicative",
            "0.5 · (1 - 0.4 · (1 - 0.25) - 0.2 · (1 - 0.75)) = 0.325",
        ),
    ],
)
def test_a_reward_that_weighs_latency_and_prompts_is_explained(
    devtools: str, tmp_path: Path, form: str, formula: str
):
    trajectory = routed(
        ["<think>a</think><search>Atlas: q</search>", "<think>b</think><answer>x y z</answer>"],
        [call(cost=9.0, dollars=16e-6, latency_s=2.5)],
    )
    scores = {"format": 0.0, "metric": 0.5, "em": 0.0, "f1": 0.5, "cost": 9.0, "dollars": 16e-6}
    scores |= {"cost_reward": 0.25, "latency_reward": 0.75, "route_cnt": 1.0, "failed_calls": 0.0}
    scores["reward"] = combine(0.0, 0.5, 0.25, 0.4, 0.75, 0.2, form)
    record = EvaluationRecord("toy/0", 0, "toy", "Who?", ["x"], "answered", trajectory, scores)
    write_parquet(tmp_path / "questions.parquet", [record])
    facts = {"reward_metric": "f1", "cost_coe": 0.4, "latency_coe": 0.2, "reward_form": form}
    (tmp_path / "results.json").write_text(json.dumps(facts | {"cost_unit": "dollars"}))

    async def steps(page: Page) -> None:
        await page.wait_for("document.querySelector('.question') !== null")
        titles = "[...document.querySelectorAll('.step b')].map((b) => b.textContent).join()"
        assert await page.evaluate(titles) == (
            "Format,Outcome: F1,Cost reward c,Latency reward l,Reward"
        )
        shown = await page.evaluate("document.querySelector('.formula').textContent")
        assert shown.replace("\N{MINUS SIGN}", "-") == formula
        reward = await page.evaluate("document.querySelector('.reward').innerText")
        assert "Cost with prompts 16;" in reward
        assert "Calls took 2.5 s;" in reward
        assert "differs from this formula" not in reward

    visit(devtools, write_report(tmp_path), "#t/toy%2F0/0", steps)
