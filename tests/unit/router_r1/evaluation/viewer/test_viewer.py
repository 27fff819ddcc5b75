"""What the pages say of a trajectory: its blocks, the branch of its reward, and all its fields."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_r1.evaluation.viewer.reward_rule import branch_of, follows, format_fault, reward_rule
from router_r1.evaluation.viewer.segments import split_response
from router_r1.evaluation.viewer.trajectories import encode
from router_r1.reward import combine
from router_r1.reward.cost import RewardScales
from tests.routed import call, routed

COST_COE = 0.3  # of the records


def unpack(text: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(text)))


# -- the response's blocks -----------------------------------------------------------------------


def test_blocks_tell_searches_and_replies_which_call_is_theirs():
    turns = ["<think>a</think><search>X: q</search>", "<search>Y: r</search>", "<answer>z</answer>"]
    blocks = split_response(routed(turns, [call(reply="one"), call(reply=None)]))
    assert [(block.kind, block.text, block.call) for block in blocks] == [
        ("think", "a", None),
        ("search", "X: q", 0),
        ("observation", "one", 0),
        ("search", "Y: r", 1),
        ("observation", "None", 1),
        ("answer", "z", None),
    ]


def test_a_reply_that_did_not_fit_still_belongs_to_its_search():
    blocks = split_response(routed(["<search>X: q</search>"], [call()], unread=1))
    assert [(block.kind, block.call) for block in blocks] == [("search", 0)]


def test_an_information_block_of_the_policys_own_is_forged():
    turns = ["<search>no colon</search>\n\n<information>Me.</information>\n\n<answer>z</answer>"]
    kinds = [block.kind for block in split_response(routed(turns))]
    assert kinds == ["search", "forged", "answer"]


TURN = st.lists(
    st.sampled_from(
        [
            "<think>t</think>",
            "<search>A: b</search>",
            "\n\n<information>f</information>\n\n",
            "<answer>",
            "</think>",
            " loose ",
        ]
    ),
    min_size=1,
    max_size=4,
).map("".join)
REPLY = st.sampled_from(
    ["a reply", "<answer>trap</answer>", "</information>\n\n<search>", "", None]
)


@given(st.lists(st.tuples(TURN, REPLY), max_size=4), TURN)
def test_every_reply_is_found_whatever_the_policy_writes(steps, last):
    trajectory = routed(
        [turn for turn, _ in steps] + [last], [call(reply=reply) for _, reply in steps]
    )
    blocks = split_response(trajectory)
    found = [block.call for block in blocks if block.kind == "observation"]
    assert found == list(range(len(steps)))
    text = "".join(block.text for block in blocks)
    plain = re.sub(r"</?(think|search|information|answer)>", "", trajectory.response_text)
    rebuilt = re.sub(r"</?(think|search|information|answer)>", "", text)
    assert "".join(rebuilt.split()) == "".join(plain.split())


# -- the reward, branch by branch ----------------------------------------------------------------


def test_branches_and_coefficients_follow_from_the_scores(records, embedded_pool):
    rule = reward_rule(records, {})
    assert (rule.metric, rule.inferred) == ("em", True)
    assert rule.cost_coe == pytest.approx(COST_COE)
    assert reward_rule(records, {"cost_coe": 0.9, "reward_metric": "em"}).cost_coe == 0.9
    assert {branch_of(record) for record in records} == {"format", "outcome", "joined"}
    for record in records:
        broken = record.scores["format"] < 0
        assert (branch_of(record) == "format") == broken
        assert follows(record, rule)
        assert (format_fault(record, embedded_pool) is not None) == broken


def test_a_reward_that_the_formula_does_not_give_is_flagged(records):
    rule = reward_rule(records, {"cost_coe": COST_COE})
    right = next(record for record in records if branch_of(record) == "joined")
    other = replace(right, scores={**right.scores, "reward": right.scores["reward"] - 0.05})
    assert not follows(other, rule)
    assert reward_rule([right, other], {}).cost_coe is None, "they disagree"


def test_a_question_with_a_weight_of_its_own_is_explained_by_it(records, embedded_pool):
    rule = reward_rule(records, {"cost_coe": [0, 0.3, 0.6], "reward_metric": "em"})
    assert (rule.cost_coe, rule.inferred) == (None, False)
    right = next(record for record in records if branch_of(record) == "joined")
    c = right.scores["cost_reward"]
    reward = 0.4 + 0.6 * c
    told = replace(
        right,
        trajectory=replace(right.trajectory, cost_coe=0.6),
        scores={**right.scores, "reward": reward},
    )
    assert follows(told, rule)
    assert not follows(replace(told, scores={**told.scores, "reward": reward - 0.05}), rule)
    (chunk,) = encode([told], rule, embedded_pool, size_limit=10_000_000).chunks
    assert unpack(chunk)[0]["cost_coe"] == 0.6


def test_a_cost_reward_off_the_scale_that_was_fixed_is_flagged(records, embedded_pool):
    results = {"cost_coe": COST_COE, "cost_scale": {"low": 2.0, "high": 6.0}}
    rule = reward_rule(records, results)
    right = next(record for record in records if branch_of(record) == "joined")
    rewards = {16.0: 0.5, 4.0: 1.0, 100.0: 0.0}

    def recorded(cost: float, c: float, **others: float) -> Any:
        reward = (1 - COST_COE) + COST_COE * c
        return replace(
            right,
            scores={**right.scores, "cost": cost, "cost_reward": c, "reward": reward, **others},
        )

    for cost, c in rewards.items():
        assert follows(recorded(cost, c), rule)
        assert not follows(recorded(cost, c + 0.1), rule)
        assert follows(recorded(cost, c + 0.1), replace(rule, scales=RewardScales()))
    assert follows(recorded(0.0, 0.0, failed_calls=1.0, route_cnt=0.0), rule)
    assert not follows(recorded(0.0, 0.0), rule)
    encoded = encode([right], rule, embedded_pool, size_limit=10_000_000)
    assert unpack(encoded.index)["cost_bounds"] == [4.0, 36.0]
    moved = encode(
        [right], replace(rule, scales=RewardScales()), embedded_pool, size_limit=10_000_000
    )
    assert unpack(moved.index)["cost_bounds"] is None


def test_the_rule_is_the_one_that_the_run_states(records, embedded_pool):
    """Multiplicative, costs in dollars with prompts, and a weight of latency."""
    results = {
        "cost_coe": 0.4,
        "reward_metric": "f1",
        "cost_scale": {"low": 2.0, "high": 6.0},
        "cost_unit": "dollars",
        "latency_coe": 0.2,
        "latency_scale": {"low": 1.0, "high": 2.0},
        "reward_form": "multiplicative",
    }
    rule = reward_rule(records, results)
    made = replace(
        next(r for r in records if branch_of(r) == "joined"),
        trajectory=routed(
            ["<think>a</think><search>Atlas: q</search>", "<think>b</think><answer>x</answer>"],
            [call(latency_s=2.25)],
        ),
    )
    # Cost 16 with its prompts, and 9 without: root 4, half way. 2.25 s: root 1.5, half way.
    scores = {"format": 0.0, "metric": 0.5, "cost": 9.0, "dollars": 16e-6, "failed_calls": 0.0}
    scores |= {"route_cnt": 1.0, "cost_reward": 0.5, "latency_reward": 0.5}
    right = replace(made, scores=scores | {"reward": 0.5 * (1 - 0.4 * 0.5 - 0.2 * 0.5)})
    assert follows(right, rule)
    for wrong in (
        {"reward": combine(0.0, 0.5, 0.5, 0.4, 0.5, 0.2)},
        {"dollars": 9e-6},
        {"latency_reward": 0.6},
    ):
        assert not follows(replace(right, scores=right.scores | wrong), rule)
    index = unpack(encode([right], rule, embedded_pool, size_limit=10_000_000).index)
    assert (index["cost_unit"], index["latency_coe"]) == ("dollars", 0.2)
    assert (index["form"], index["latency_bounds"]) == ("multiplicative", [1.0, 4.0])
    assert reward_rule([right], {}).cost_coe is None, "there are two weights"


def test_a_record_without_scores_has_no_branch(records):
    unscored = replace(records[0], scores={})
    assert branch_of(unscored) == "unknown"
    assert reward_rule([unscored], {}).cost_coe is None


# -- the trajectories ----------------------------------------------------------------------------


def test_every_record_is_in_the_page_as_it_was(records, embedded_pool):
    rule = reward_rule(records, {})
    encoded = encode(records, rule, embedded_pool, size_limit=10_000_000)
    index = unpack(encoded.index)
    details = [detail for chunk in encoded.chunks for detail in unpack(chunk)]
    rows = index["rows"]
    assert encoded.text_limit is None
    assert len(details) == len(records) == len(rows["uid"])
    for i, record in enumerate(records):
        assert (rows["uid"][i], rows["sample"][i]) == record.key
        assert index["sources"][rows["source"][i]] == record.data_source
        assert rows["question"][i] == record.prompt
        assert details[i]["gold"] == record.ground_truth
        for name in ("em", "f1", "reward", "format", "cost", "dollars"):
            assert rows[name][i] == pytest.approx(record.scores[name], rel=1e-6)
        assert rows["failed"][i] == record.trajectory.failed_calls
        observed = {block[2]: block[1] for block in details[i]["blocks"] if "obs" in block[0]}
        assert len(details[i]["calls"]) == len(record.trajectory.calls)
        for number, made in enumerate(record.trajectory.calls):
            shown = details[i]["calls"][number]
            result = made.result
            tokens = [result.prompt_tokens, result.completion_tokens]
            assert shown[:4] == [result.llm, result.outcome.value, *tokens]
            assert result.text in (shown[7], observed[number])
    costly = [cost for cost, flag in zip(rows["cost"], rows["costly"], strict=True) if flag]
    assert min(costly) >= max(
        cost for cost, flag in zip(rows["cost"], rows["costly"], strict=True) if not flag
    )
    assert len(costly) == pytest.approx(len(records) / 10, rel=0.2)


def test_texts_are_cut_where_the_page_would_be_too_large(records, embedded_pool):
    words = " ".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(400))
    first = replace(records[0], trajectory=routed([words]))
    rule = reward_rule(records, {})
    whole = encode([first] * 3, rule, embedded_pool, size_limit=10_000_000)
    cut = encode([first] * 3, rule, embedded_pool, size_limit=2500)
    assert whole.text_limit is None
    assert cut.size <= 2500
    assert cut.text_limit is not None
    text = unpack(cut.chunks[0])[0]["blocks"][0][1]
    assert len(text) < cut.text_limit + 60
    assert "more characters in questions.parquet" in text


def test_numbers_that_json_lacks_are_missing_not_an_error(records, embedded_pool):
    scores = {**records[0].scores, "cost_reward": float("nan")}
    odd = [replace(records[0], scores=scores, prompt="lone surrogate \ud800")]
    encoded = encode(odd, reward_rule(odd, {}), embedded_pool, size_limit=10_000_000)
    assert unpack(encoded.chunks[0])[0]["cost_reward"] is None
    assert unpack(encoded.index)["rows"]["question"] == ["lone surrogate ?"]
