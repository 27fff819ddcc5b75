"""The measures of trading cost for quality, against values computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_r1.evaluation.comparison_tables import comparison_tables
from router_r1.evaluation.frontier import Curve, Point, TradeOff, trade_offs
from router_r1.evaluation.tables import DASH
from tests.comparisons import toy_comparison, toy_row

POINTS = [Point(3, 0.5), Point(1, 0.2), Point(5, 0.9), Point(2, 0.4), Point(6, 0.7), Point(5, 0.1)]
TITLE = "What trading cost for EM gains"


def test_a_curve_is_the_upper_hull() -> None:
    curve = Curve(POINTS)
    # From (2, 0.4) to (5, 0.9) the line is at 0.567 for cost 3; (6, 0.7) costs more for less.
    assert curve.corners == [Point(1, 0.2), Point(2, 0.4), Point(5, 0.9)]
    assert curve.at(0.9) is None
    assert curve.at(1.5) == pytest.approx(0.3)
    assert curve.at(3.5) == pytest.approx(0.65)
    assert curve.at(100.0) == 0.9
    assert curve.cost_of(0.1) == 1
    assert curve.cost_of(0.65) == pytest.approx(3.5)
    assert curve.cost_of(0.91) is None


def test_the_mean_quality_is_the_area_under_the_curve() -> None:
    curve = Curve(POINTS)
    # 0 up to cost 1, then 1 x 0.3, 3 x 0.65 and, level, 5 x 0.9
    assert curve.mean_quality(10.0) == pytest.approx((0.3 + 1.95 + 4.5) / 10)
    assert curve.mean_quality(5.0) == pytest.approx((0.3 + 1.95) / 5)
    assert Curve([Point(4, 0.5)]).mean_quality(10.0) == pytest.approx(0.3)
    assert Curve([Point(0, 0.5)]).mean_quality(10.0) == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"dearest is 4\.0"):
        curve.mean_quality(4.0)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12))
def test_no_point_lies_above_its_curve(places: list[tuple[int, int]]) -> None:
    points = [Point(cost, quality / 20) for cost, quality in places]
    curve = Curve(points)
    assert set(curve.corners) <= set(points)
    for point in points:
        reached = curve.at(point.cost)
        assert reached is not None
        assert reached >= point.quality - 1e-12
    slopes = [
        (b.quality - a.quality) / (b.cost - a.cost)
        for a, b in zip(curve.corners, curve.corners[1:], strict=False)
    ]
    assert all(slope > 0 for slope in slopes)
    assert slopes == sorted(slopes, reverse=True)


def test_the_measures_are_those_computed_by_hand() -> None:
    singles = [Point(10, 0.6), Point(1, 0.2)]
    router = [Point(2, 0.4), Point(4, 0.8)]
    poor = [Point(5, 0.3)]
    mixed, good, bad = trade_offs([singles, router, poor], singles)
    # The router has 0.6 for 3 of 10, and 0.4, 0.52, 0.58 for 2, 2.6, 2.9.
    assert good == TradeOff(
        aiq=pytest.approx((2 * 0.6 + 6 * 0.8) / 10),
        cost_save=pytest.approx(0.7),
        cpt=pytest.approx((0.2, 0.26, 0.29)),
        distance=0.0,
    )
    # The line from (1, 0.2) to (10, 0.6); at cost 10 the frontier has 0.8.
    assert mixed == TradeOff(
        aiq=pytest.approx(9 * 0.4 / 10),
        cost_save=0.0,
        cpt=pytest.approx((0.55, 0.82, 0.955)),
        distance=pytest.approx(0.1),
    )
    assert bad == TradeOff(pytest.approx(0.15), None, (None, None, None), pytest.approx(0.5))


def test_the_best_single_llm_is_the_cheaper_of_equals_and_may_gain_nothing() -> None:
    singles = [Point(8, 0.5), Point(4, 0.5)]
    (measures,) = trade_offs([[Point(6, 0.5)]], singles)
    assert measures.cost_save == pytest.approx(-0.5)
    assert measures.aiq == pytest.approx(0.5 * 2 / 8), "the dear LLM is compared too"
    assert measures.cpt == (None, None, None)


def test_the_table_has_a_line_for_each_router_and_one_for_each_family() -> None:
    toy = toy_comparison()
    rows = [
        *toy.rows,
        toy_row("Large", "single", 0.6, 8e-5),
        toy_row("random (expected)", "random", 0.3, 3e-5, low=None),  # is not measured
    ]
    table = next(t for t in comparison_tables(replace(toy, rows=rows)) if t.title == TITLE)
    lines = {line.name: list(line.cells) for line in table.lines}
    assert list(lines) == [
        *("single LLMs, mixed", "kNN", "slow", "trained"),
        *("routers of the sweep", "oracles"),
    ]
    assert list(table.columns)[1:] == ["AIQ", "saved", "CPT(50%)", "CPT(80%)", "CPT(95%)", "below"]
    # Of 8e-5 for 0.6, over 0.2 for 1e-6: the sweep has 0.8 for 2e-5 already, and kNN 0.5 for 5e-5.
    assert lines["routers of the sweep"][1:5] == ["75%", "25%", "25%", "25%"]
    assert lines["kNN"][1:5] == [DASH, "62%", DASH, DASH]
    assert lines["oracles"][5] == "0.000"
    # The sweep: 0.8 from 2e-5 to 0.9 at 9e-5; the frontier has 1.0 from 8e-5 on.
    assert (lines["routers of the sweep"][0], lines["trained"][5]) == ("0.661", "0.100")
    alone = next(
        t for t in comparison_tables(replace(toy, rows=rows[:2], sweep=[])) if t.title == TITLE
    )
    assert [line.name for line in alone.lines] == ["single LLMs, mixed"]


def test_without_single_llms_or_costs_there_is_no_such_table() -> None:
    toy = toy_comparison()
    others = [row for row in toy.rows if row.kind != "single"]
    free = [toy_row("Small", "single", 0.2, 0.0), toy_row("kNN", "learned", 0.5, 0.0)]
    for rows, sweep in ((others, toy.sweep), (free, [])):
        titles = [t.title for t in comparison_tables(replace(toy, rows=rows, sweep=sweep))]
        assert TITLE not in titles
