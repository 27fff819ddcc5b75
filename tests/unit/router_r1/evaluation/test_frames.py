"""Figures of scored records, and the published ones beside them."""

from __future__ import annotations

import pytest

from router_r1.evaluation.frames import (
    called_llm,
    calls_by,
    calls_by_domain,
    calls_frame,
    llm_names,
    llm_use,
)
from router_r1.evaluation.published import published_figures
from router_r1.evaluation.score_tables import summaries_of
from tests.conftest import REFERENCE
from verl.trainer.evaluation.summary import summarise


def test_headline_figures_are_those_of_the_summary(records):
    ours = summaries_of(records)
    for mine, reference in zip(ours, summarise(records, "em"), strict=True):
        assert (mine.data_source, mine.prompts) == (reference.data_source, reference.prompts)
        for column in ("em", "f1", "cost", "dollars", "route_cnt", "num_turns"):
            assert mine.estimates[column] == reference.estimates[column]
    broken = sum(r.scores["format"] < 0 for r in records if r.data_source == "world_onehop")
    count = sum(r.data_source == "world_onehop" for r in records)
    onehop = next(s for s in ours if s.data_source == "world_onehop")
    assert onehop.estimates["format_failure"].mean == pytest.approx(broken / count, rel=0.2)


def test_calls_add_up_however_they_are_grouped(records):
    calls = sum(len(record.trajectory.calls) for record in records)
    llms = llm_names(records)
    frame = calls_frame({0: records})
    use = llm_use(frame, llms)
    assert list(use.index) == llms
    assert use["calls"].sum() == len(frame) == calls
    assert use["failed"].sum() == sum(r.trajectory.failed_calls for r in records)
    assert use["cost_share"].sum() == pytest.approx(1.0)
    by_source, by_domain = calls_by(frame, "source", llms), calls_by_domain(frame, llms)
    assert list(by_source.index) == list(dict.fromkeys(r.data_source for r in records))
    assert by_domain.sum(axis=1).is_monotonic_decreasing
    for groups in (by_source, by_domain):
        assert list(groups.columns) == llms
        assert groups.to_numpy().sum() == calls


def test_an_llm_that_nobody_asked_or_that_only_failed_has_its_line(records):
    failed = next(r for r in records if r.trajectory.failed_calls)
    asked = called_llm(failed.trajectory.calls[0])
    use = llm_use(calls_frame({0: [failed]}).head(1), ["Idle", asked])
    assert use.loc["Idle", "calls"] == use.loc["Idle", "tokens"] == 0
    assert (use.loc[asked, "calls"], use.loc[asked, "failed"]) == (1, 1)
    assert use["latency_s"].isna().all()
    assert calls_frame({0: []}).empty


def test_names_that_the_policy_invented_count_as_one(records):
    assert "Zodiac" in {made.result.llm for record in records for made in record.trajectory.calls}
    names = llm_names(records)
    assert names[-1] == "unknown name"
    assert "Zodiac" not in names


def test_published_figures_are_those_of_the_transcription():
    path = REFERENCE.parent / "spec" / "paper_results.md"
    if not path.is_file():
        pytest.skip(f"reference {path} is not on this machine")
    lines = [line.strip("| \n").split(" | ") for line in path.read_text().splitlines()]
    em = {cells[0].replace("**", ""): cells[1:8] for cells in lines if len(cells) == 9}
    cost = {cells[0]: cells[1:] for cells in lines if len(cells) == 5}
    published = published_figures()
    benchmarks = published.filter(regex="^em ").columns
    priced = [name for name in published.columns if name.startswith("cost ")]
    for method, row in published.iterrows():
        if method in em:
            assert list(row[benchmarks]) == [float(value) for value in em[method]]
        coefficient = method.rsplit(" ", 1)[-1] if "coefficient" in method else "0.0"
        ours = method.startswith("Router-R1")
        name = f"Router-R1 \N{GREEK SMALL LETTER ALPHA}={coefficient}" if ours else method
        if row[priced].notna().any() and name in cost:
            sources = [column.removeprefix("cost ") for column in priced]
            pairs = [f"{row[f'em {s}']:.3f} / {row[f'cost {s}']:.1f}" for s in sources]
            assert pairs == cost[name]
