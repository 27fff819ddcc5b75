"""The charts: one drawing each, as a picture and in the pages."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_r1.evaluation.charts import (
    comparison_png,
    comparison_svg,
    learning_curves,
    llms_of,
    marks,
    pareto_front,
    routing_charts,
    validation_sources,
)
from router_r1.evaluation.comparison import Comparison, SweepPoint
from router_r1.evaluation.labels import place_labels
from router_r1.web.svg import COLOURS
from tests.comparisons import toy_comparison, toy_row
from tests.world_records import HOSTILE
from verl.utils.plots import TRAINING_CHARTS, Curve, save_curves

STEPS = [{"step": step, "critic/score/mean": step / 10} for step in range(1, 4)]


# -- over a run's steps --------------------------------------------------------------------------


def test_a_resumed_runs_later_figures_count() -> None:
    rows = [
        {"step": 1, "b": 0.1},
        {"step": 3, "b": 0.3},
        {"step": 2, "b": 0.2},
        {"step": 3, "b": 1},
    ]
    assert Curve("", ("a", "b")).points(rows) == [(1, 0.1), (2, 0.2), (3, 1)]


def test_with_one_dataset_all_says_the_same() -> None:
    one = {"step": 1, "val/test_score/EM/a": 0.2, "val/test_score/EM/all": 0.2}
    assert validation_sources([one]) == ["a"]
    assert validation_sources([one, {"step": 2, "val/test_score/EM/b": 0.1}]) == ["a", "b", "all"]


@pytest.mark.parametrize("charts", [TRAINING_CHARTS, routing_charts()])
def test_the_curves_of_a_run_are_one_picture(charts: list, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(row) + "\n" for row in STEPS))
    save_curves(metrics, charts, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "curves.png"}


def test_a_page_shows_the_quantities_that_there_are_figures_for() -> None:
    assert learning_curves([{"step": 1, "other": 1.0}]) is None
    (figure,) = learning_curves(STEPS).figures  # type: ignore[union-attr]
    assert "Reward by training step" in figure
    validated = [*STEPS, {"step": 3, "val/test_score/reward/a": 0.5}]
    curves = learning_curves(validated)
    assert curves is not None
    assert list(curves.legend) == ["training, running mean of 5 steps", "validation: a"]
    assert "<title>validation: a, step 3: 0.5</title>" in curves.figures[0]


def test_whom_training_asks_is_drawn_from_its_metrics() -> None:
    rows = [
        {"step": 1, "reward/calls/Atlas": 1.0, "reward/calls/Draco": 0.0},
        {"step": 2, "reward/calls/Atlas": 0.5, "reward/calls/Draco": 0.5},
        {"step": 2, "val/test_score/EM/all": 0.5, "pool/spent_usd/Idle": 0.1},
    ]
    assert llms_of(rows) == ["Atlas", "Draco", "Idle"]
    *_, asked = learning_curves(rows).figures  # type: ignore[union-attr]
    assert "<title>Draco, step 2: 0.25</title>" in asked, "smoothed over both steps"
    assert f"<title>{HOSTILE}" not in asked


# -- EM against dollars --------------------------------------------------------------------------


def test_the_front_holds_what_nothing_beats() -> None:
    places = [(1.0, 0.2), (2.0, 0.1), (3.0, 0.5), (3.0, 0.4), (4.0, 0.5), (5.0, 0.9)]
    rows = [toy_row(f"r{i}", "learned", em, x / 1000) for i, (x, em) in enumerate(places)]
    oracle = toy_row("oracle", "oracle", 1.0, 1e-6)
    assert pareto_front(Comparison("", [*rows, oracle], [])) == [(1.0, 0.2), (3.0, 0.5), (5.0, 0.9)]
    cheap = SweepPoint(0.9, toy_row("", "", 0.6, 1e-3).total)
    assert pareto_front(Comparison("", rows, [cheap])) == [(1.0, 0.6), (5.0, 0.9)]


def test_rows_at_one_place_share_a_mark_and_computed_ones_have_none() -> None:
    labels = [mark.label for mark in marks(toy_comparison())]
    assert labels == [
        *("Small, cheapest", "kNN", "slow", "trained, cost_coe 0", "oracle"),
        "cost_coe 0.9",
    ]


def test_routers_of_a_sweep_at_one_place_share_a_label_and_leave_the_oracle_its_own() -> None:
    rows = [
        toy_row("trained", "router", 0.9, 9e-5),
        toy_row("oracle at 0.6", "oracle", 0.8, 2e-5),
    ]
    coes = {0.0: rows[0], 0.6: rows[1], 0.9: rows[1]}
    sweep = [SweepPoint(coe, at.total) for coe, at in coes.items()]
    assert [(mark.label, mark.kind) for mark in marks(Comparison("", rows, sweep))] == [
        ("trained, cost_coe 0", "router"),
        ("oracle at 0.6", "oracle"),
        ("cost_coe 0.6, 0.9", "router"),
    ]


def test_the_chart_is_a_picture_and_part_of_a_page(tmp_path: Path) -> None:
    image = tmp_path / "comparison.png"
    comparison_png(toy_comparison(), image)
    assert image.read_bytes().startswith(b"\x89PNG")
    empty = Comparison("Nothing measured", [], [])
    comparison_png(empty, image)
    assert [p.name for p in tmp_path.iterdir()] == [image.name]
    assert "Nothing measured" in comparison_svg(empty)


def test_in_a_page_words_are_text_marks_have_hints_and_ink_follows_the_theme() -> None:
    comparison = toy_comparison()
    named = replace(comparison, rows=[replace(comparison.rows[2], name=HOSTILE)])
    svg = comparison_svg(named)
    assert svg == comparison_svg(named), "the same figure, the same text"
    root = ElementTree.fromstring(svg)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert HOSTILE in texts
    (hint,) = [
        t.text
        for t in root.iter("{http://www.w3.org/2000/svg}title")
        if t.text and HOSTILE in t.text
    ]
    assert hint == f"{HOSTILE}: EM 0.500, $0.05 per 1000 questions, 1.00 calls a question"
    used = set(re.findall(r"#[0-9a-f]{6}\b", svg))
    assert not used, f"these inks are not the theme's: {used}"
    assert {"var(--kind-router)", "var(--text)", "var(--dim)"} <= set(
        re.findall(r"var\(.*?\)", svg)
    )
    links = set(re.findall(r'href="(.*?)"', svg))
    assert all(link.startswith("#") for link in links)


def test_a_kind_has_one_colour_in_the_theme() -> None:
    assert len({name for name in COLOURS if name.startswith("kind-")}) == 8


# -- labels --------------------------------------------------------------------------------------


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    return max(0.0, width) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0, 900), st.floats(0, 600)), min_size=1, max_size=14, unique=True)
)
def test_labels_do_not_overlap_where_there_is_room(points: list[tuple[float, float]]) -> None:
    frame = (-100, -60, 1000, 660)
    boxes = place_labels(points, [(70.0, 11.0)] * len(points), frame).tolist()
    assert all(overlap(a, b) == 0 for a, b in itertools.combinations(boxes, 2))
    assert boxes == place_labels(points, [(70.0, 11.0)] * len(points), frame).tolist()


def test_labels_keep_off_lines() -> None:
    line = [(0.0, 50.0), (200.0, 50.0)]
    ((_, low, _, high),) = place_labels([(100.0, 50.0)], [(40.0, 10.0)], (0, 0, 200, 100), [line])
    assert not low < 50 < high
