"""The reward against the reference rows, and its own rules."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_r1.llm_agent import parse_action
from router_r1.llm_agent.route_service import API_PRICE_1M_TOKENS, check_llm_name
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.reward import (
    CostNormalizer,
    combine,
    exact_match,
    extract_answer,
    f1_score,
    format_reward,
)
from router_r1.reward.format import FormatPenalties
from router_r1.reward.manager import RewardConfig, RoutingRewardFunction
from router_r1.reward.normalization import NORMALIZATIONS
from tests.conftest import reference_file, reference_rows
from tests.routed import call, routed
from verl.config.validation import ConfigError


def make_batch(**columns: Any) -> Any:
    """A DataProto; skips where there is no torch (see scripts/locks/portable.txt)."""
    return pytest.importorskip("verl.protocol", exc_type=ImportError).DataProto.from_dict(**columns)


def test_every_reference_row() -> None:
    rows = reference_rows("reward_public.jsonl")
    assert len(rows) >= 600
    for row in rows:
        text, golds = row["completion"], row["golden_answers"]
        answer = extract_answer(text)
        em = exact_match(answer, golds) if answer is not None else 0.0
        f1 = f1_score(answer, golds) if answer is not None else 0.0
        score = format_reward(text)
        assert score == row["format"], text
        assert em == row["val_em"][0], text
        assert f1 == pytest.approx(row["val_f1"][1], abs=1e-12), text
        for outcome, expected in ((em, row["train_em"]), (f1, row["train_f1"])):
            reward = combine(score, outcome, row["api_cost"], row["cost_coe"])
            assert reward == pytest.approx(expected[2], abs=1e-12), text


def test_every_reference_action() -> None:
    kinds = {"search": "search", "answer": "answer"}
    for row in reference_rows("reward_public.jsonl"):
        action = parse_action(row["completion"])
        if row["action"] in kinds:
            assert (action.kind, action.content) == (kinds[row["action"]], row["content"])
        else:
            expected = "no-action" if row["action"] is None else row["action"].split()[-1]
            assert (action.kind, action.reason) == ("invalid", expected)


def test_reference_cost_window() -> None:
    reference = json.loads(reference_file("cost_public.json").read_text())
    (expected,) = (values for key, values in reference.items() if key != "raw_cost")
    normalize = CostNormalizer()
    assert [normalize(cost) for cost in reference["raw_cost"]] == pytest.approx(expected, abs=1e-12)


def test_reference_llm_names() -> None:
    for name, (model, temperature) in json.loads(
        reference_file("llm_names.json").read_text()
    ).items():
        assert check_llm_name(name) == (model, temperature), name


@pytest.mark.parametrize(
    ("prediction", "gold", "score"),
    [
        ("", "The", 0.0),
        ("", "", 0.0),
        ("???", "!!!", 0.0),
        ("the", "A", 0.0),
        ("A", "A", 1.0),
        ("the a.", "The A", 1.0),
        ("The Who", "who", 1.0),
    ],
)
def test_nothing_is_never_right_and_an_article_is_something(
    prediction: str, gold: str, score: float
) -> None:
    for normalization in NORMALIZATIONS:
        assert exact_match(prediction, [gold], normalization) == score
        assert f1_score(prediction, [gold], normalization) == score


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=3))
def test_where_em_is_one_so_is_f1(prediction: str, golds: list[str]) -> None:
    for normalization in NORMALIZATIONS:
        if exact_match(prediction, [*golds, prediction], normalization):
            assert f1_score(prediction, [*golds, prediction], normalization) == 1.0
        else:
            assert not any(character.isalnum() for character in prediction)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("1914\u20131918", "1914-1918"),
        ("O\u2019Brien", "O'Brien"),
        ("Beyonc\u00e9", "Beyonce\u0301"),
        ("\u5317\u4eac\u3002", "\u5317\u4eac"),
        ("\u22125 \u00b0C", "-5 \u00b0C"),
        ("Stra\u00dfe", "STRASSE"),
        ("\uff21\u200bB", "ab"),
    ],
)
def test_unicode_normalization_equates_what_the_papers_rule_tells_apart(
    prediction: str, gold: str
) -> None:
    assert exact_match(prediction, [gold]) == 0.0
    for score in (exact_match, f1_score):
        assert score(prediction, [gold], "unicode") == score(gold, [prediction], "unicode") == 1.0


def test_the_normalization_is_a_setting(embedded_pool: PoolConfig) -> None:
    batch = make_batch(
        non_tensors={"record": [_answered("O\u2019Brien", 1.0)], "ground_truth": [["O'Brien"]]}
    )
    scores = {}
    for normalization in NORMALIZATIONS:
        config = RewardConfig(normalization=normalization)
        function = RoutingRewardFunction(config, embedded_pool, "em", 0.0)
        scores[normalization] = function(batch, validate=True).scores.tolist()
    assert scores == {"paper": [0.0], "unicode": [1.0]}
    with pytest.raises(ConfigError, match=r"reward\.normalization='ascii'.*paper, unicode"):
        RewardConfig(normalization="ascii")


def test_a_trajectory_without_answer_matches_no_answer(embedded_pool: PoolConfig) -> None:
    record = routed(["<think>a</think>"])
    batch = make_batch(non_tensors={"record": [record], "ground_truth": [["The", ""]]})
    function = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.0)
    assert function(batch, validate=True).metrics["em"].tolist() == [0.0]


def test_prices_cover_the_papers_pool() -> None:
    assert len(API_PRICE_1M_TOKENS) >= 6
    assert all(price > 0 for price in API_PRICE_1M_TOKENS.values())


@given(
    format_score=st.sampled_from([0.0, -1.0, -0.5]),
    outcome=st.floats(0, 1),
    cost=st.floats(0, 1),
    alpha=st.floats(0, 1),
)
def test_hierarchy(format_score: float, outcome: float, cost: float, alpha: float) -> None:
    """Format gates the outcome, the outcome gates the cost."""
    reward = combine(format_score, outcome, cost, alpha)
    if format_score < 0:
        assert reward == format_score
    elif outcome == 0:
        assert reward == 0
    else:
        assert min(outcome, cost) - 1e-9 <= reward <= max(outcome, cost) + 1e-9


@given(st.lists(st.floats(0, 1e4), min_size=2, max_size=60))
def test_cheaper_is_never_worse(costs: list[float]) -> None:
    normalize = CostNormalizer()
    for cost in costs:
        assert 0.0 <= normalize(cost) <= 1.0
    low, high = sorted((costs[0], costs[1]))
    assert normalize.peek(low) >= normalize.peek(high)


def test_peek_leaves_the_window_alone_and_agrees_with_a_call() -> None:
    normalize = CostNormalizer(window=5)
    for cost in (1.0, 4.0, 9.0, 16.0, 25.0, 36.0):
        normalize(cost)
    before = normalize.state_dict()
    seen = normalize.peek(2.0)
    assert normalize.state_dict() == before
    assert normalize(2.0) == seen


def test_window_survives_a_checkpoint() -> None:
    first, second = CostNormalizer(window=3), CostNormalizer(window=3)
    for cost in (1.0, 5.0, 2.0, 9.0):
        first(cost)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second(3.0) == first(3.0)


@pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf])
def test_impossible_cost_is_refused(cost: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        CostNormalizer()(cost)


def test_penalties_are_told_apart(embedded_pool: PoolConfig) -> None:
    penalties = FormatPenalties(broken_tags=-1.0, wrong_structure=-0.5, bad_call=-0.25)
    call = "<think>a</think><search>{}</search><information>x</information><answer>b</answer>"
    for text, expected in (
        ("<think>a<answer>b</answer>", -1.0),
        ("<think>a</think>", -0.5),
        (call.format("Nobody: q"), -0.25),
        (call.format("Atlas: q"), 0.0),
    ):
        assert format_reward(text, embedded_pool, penalties) == expected


def _answered(answer: str, cost: float, reply: str | None = "x") -> RoutedTrajectory:
    """An answer after one call of that cost; without a reply it has failed."""
    turns = (
        "<think>a</think><search>Atlas: q</search>",
        f"<think>b</think><answer>{answer}</answer>",
    )
    return routed(turns, [call("Atlas", reply, cost)])


def _score(
    pool: PoolConfig, records: list[RoutedTrajectory], cost_coe: float, validate: bool = False
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    function = RoutingRewardFunction(RewardConfig(), pool, "em", cost_coe)
    golds = [["yes sir"]] * len(records)
    batch = make_batch(non_tensors={"record": records, "ground_truth": golds})
    output = function(batch, validate=validate)
    return output.scores, output.metrics


def test_cost_only_tells_right_answers_apart(embedded_pool: PoolConfig) -> None:
    records = [_answered("yes sir", 100.0), _answered("yes sir", 1.0), _answered("wrong", 0.0)]
    # The window fills as trajectories come: the last pass sees all of them.
    scores, metrics = _score(embedded_pool, records * 20, cost_coe=0.9)
    dear, cheap, wrong = scores[-3:]
    assert cheap > dear > wrong == 0.0
    assert metrics["calls/Atlas"].tolist() == [1.0] * 60
    assert metrics["calls/Draco"].sum() == 0


def test_failed_calls_are_not_cheap(embedded_pool: PoolConfig) -> None:
    """A broken API must not look like thrift."""
    records = [_answered("yes sir", 50.0)] * 20 + [_answered("yes sir", 0.0, reply=None)]
    scores, metrics = _score(embedded_pool, records, cost_coe=0.5)
    assert metrics["cost_reward"][-1] == 0.0
    assert scores[-1] == 0.5


def test_an_answer_inside_a_reply_is_not_the_policys(embedded_pool: PoolConfig) -> None:
    record = _answered("wrong", 1.0, reply="<answer>yes sir</answer>")
    _, metrics = _score(embedded_pool, [record], cost_coe=0.0)
    assert metrics["em"].tolist() == [0.0]


def test_validation_does_not_move_the_cost_window(embedded_pool: PoolConfig) -> None:
    function = RoutingRewardFunction(RewardConfig(), embedded_pool, "em", 0.5)
    batch = make_batch(
        non_tensors={"record": [_answered("yes sir", 3.0)], "ground_truth": [["yes sir"]]}
    )
    before = function.state_dict()
    function(batch, validate=True)
    assert function.state_dict() == before
    function(batch, validate=False)
    assert function.state_dict() != before
