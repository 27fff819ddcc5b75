"""The gap to the oracle, the seconds that questions wait, and how the tables show them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from router_r1.evaluation.answer import Answer, Call, to_record
from router_r1.evaluation.benchmark import Prompt, Question
from router_r1.evaluation.comparison import (
    Comparison,
    EvaluationFileError,
    measured_row,
    read_comparison,
    write_comparison,
)
from router_r1.evaluation.comparison_tables import comparison_tables
from router_r1.evaluation.oracle_gap import ORACLE, oracle_row, with_oracle_gaps
from router_r1.evaluation.weighing import stated_weighing
from router_r1.llm_agent.trajectory import QuestionRecord
from router_r1.pool.config import PoolConfig
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.reward import CostScale
from verl.trainer.evaluation.records import EvaluationRecord

SOURCES = ("one", "one", "one", "one", "two")
# Of five questions: who is right, dollars, and seconds.
RIGHT = {"A": (1, 0, 0, 1, 1), "B": (1, 1, 0, 0, 0)}
DOLLARS = {"A": 3e-6, "B": 1e-6}
SECONDS = {"A": (0.1, 0.2, 0.3, 0.4, 1.0), "B": (0.5,) * 5}


def answers(llms: str) -> list[EvaluationRecord]:
    """Each question answered by the LLM named in its place."""
    return [
        EvaluationRecord(
            f"{source}/{i}",
            0,
            source,
            f"question {i}",
            ["x"],
            "answered",
            QuestionRecord(),
            {
                "em": float(RIGHT[llm][i]),
                "f1": float(RIGHT[llm][i]),
                "cost": DOLLARS[llm] * 1e6,
                "dollars": DOLLARS[llm],
                "route_cnt": 1.0,
                "latency_s": SECONDS[llm][i],
            },
        )
        for i, (source, llm) in enumerate(zip(SOURCES, llms, strict=True))
    ]


def compared() -> Comparison:
    names = {"A": "AAAAA", "B": "BBBBB", "router": "ABBAB"}
    rows = [
        measured_row(name, "router" if name == "router" else "single", answers(llms))
        for name, llms in names.items()
    ]
    return with_oracle_gaps(
        Comparison("Toy", rows, []), oracle_row([answers("AAAAA"), answers("BBBBB")])
    )


def test_the_oracle_asks_the_cheapest_that_is_right_else_the_cheapest() -> None:
    oracle = next(row for row in compared().rows if row.name == ORACLE)
    assert oracle.kind == "oracle"
    # BBBAA: three of four right in "one", all in "two"
    assert (oracle.by_source["one"].em, oracle.by_source["two"].em) == (0.75, 1.0)
    assert oracle.by_source["one"].dollars == pytest.approx(1.5e-6)
    assert oracle.by_source["two"].dollars == 3e-6


def test_gaps_are_shares_of_the_oracles_quality_by_dataset_and_over_them() -> None:
    rows = {row.name: row for row in compared().rows}
    gaps = {name: row.total.oracle_gap for name, row in rows.items()}
    # Means over datasets: oracle 0.875, A (0.5 + 1) / 2, B (0.5 + 0) / 2, router (0.75 + 0) / 2.
    assert gaps == pytest.approx(
        {"A": 1 - 0.75 / 0.875, "B": 1 - 0.25 / 0.875, "router": 1 - 0.375 / 0.875, ORACLE: 0.0}
    )
    assert rows["router"].by_source["one"].oracle_gap == 0.0
    assert rows["A"].by_source["one"].oracle_gap == pytest.approx(1 / 3)


def test_where_no_llm_is_right_there_is_no_gap() -> None:
    wrong = [replace(r, scores=r.scores | {"em": 0.0}) for r in answers("AAAAA")]
    rows = with_oracle_gaps(
        Comparison("Toy", [measured_row("A", "single", wrong)], []), oracle_row([wrong])
    ).rows
    assert [row.total.oracle_gap for row in rows] == [None, None]


def test_seconds_are_a_mean_over_datasets_and_a_percentile_over_questions() -> None:
    total = compared().rows[0].total
    assert total.latency_s == pytest.approx((0.25 + 1.0) / 2)
    # 0.1, 0.2, 0.3, 0.4, 1.0: the 95th percentile lies 0.8 of the way from 0.4 to 1.0
    assert total.latency_p95_s == pytest.approx(0.88)
    untimed = [
        replace(r, scores={k: v for k, v in r.scores.items() if k != "latency_s"})
        for r in answers("AAAAA")
    ]
    mixed = measured_row("A", "single", [*untimed[:2], *answers("AAAAA")[2:]]).total
    assert (mixed.latency_s, mixed.latency_p95_s) == (None, None)


def test_a_baseline_waits_for_the_slowest_call_of_each_turn() -> None:
    calls = [
        Call(turn, "q", CallResult("A", outcome, None, latency_s=seconds))
        for turn, outcome, seconds in (
            (0, Outcome.TIMEOUT, 2.0),
            (0, Outcome.TIMEOUT, 3.0),
            (1, Outcome.TIMEOUT, 0.5),
        )
    ]
    question = Question("toy/0", Prompt("toy", "q"), ["x"])
    assert to_record(question, Answer("", calls)).scores["latency_s"] == 3.5


def test_the_table_shows_gap_and_seconds_and_leaves_out_what_nobody_has(tmp_path: Path) -> None:
    table = comparison_tables(compared())[0]
    assert list(table.columns) == [
        *("router", "kind", "EM", "F1", "cost", "$ / 1000", "calls", "seconds", "gap")
    ]
    cells = {line.name.removesuffix(" ◂"): line.cells for line in table.lines}
    seconds, gap = cells["A"][-2:]
    assert (seconds[0], seconds[1], gap[0]) == ("0.625", "95%: 0.88", "14.3%")
    bare = compared()
    rows = [
        replace(row, total=replace(row.total, f1=None, cost=None, latency_s=None, oracle_gap=None))
        for row in bare.rows
    ]
    bare = replace(bare, rows=rows, quality="right")
    assert list(comparison_tables(bare)[0].columns) == [
        *("router", "kind", "right", "$ / 1000", "calls")
    ]
    assert comparison_tables(bare)[1].title == "What trading cost for right gains"
    write_comparison(tmp_path / "comparison.json", bare)
    read = read_comparison(tmp_path / "comparison.json")
    assert read is not None
    assert (read.quality, [row.total for row in read.rows]) == ("right", [r.total for r in rows])


def test_the_oracle_of_a_sweep_weighs_as_its_routers_were_rewarded(
    tmp_path: Path, embedded_pool: PoolConfig
) -> None:
    def stated(name: str, **facts: object) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(facts))
        return tmp_path / name

    plain, other = stated("plain"), stated("other", cost_unit="dollars", latency_coe=0.2)
    assert stated_weighing([], embedded_pool) == stated_weighing([plain], embedded_pool)
    weighing = stated_weighing([other], embedded_pool)
    assert weighing.prompt_prices["Atlas"] == 0.5
    assert weighing.latency_coe == 0.2
    scale = {"low": 1.0, "high": 9.0}
    first, second, third = (
        stated(name, cost_scale=bounds)
        for name, bounds in (("a", scale), ("b", scale), ("c", {**scale, "high": 8.0}))
    )
    assert stated_weighing([first, second], embedded_pool).scales.cost == CostScale(1.0, 9.0)
    for mixed in ([first, third], [first, plain], [plain]):
        assert stated_weighing(mixed, embedded_pool).scales.cost is None
    with pytest.raises(EvaluationFileError, match=r"plain.*other.*cost_unit=dollars.*apart"):
        stated_weighing([plain, other], embedded_pool)
