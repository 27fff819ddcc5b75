"""A trajectory's figures follow from its turns, and its JSON form loses nothing."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from router_r1.llm_agent.observation import render_observation
from router_r1.llm_agent.trajectory import Call, RoutedTrajectory, Turn
from router_r1.pool.outcome import CallResult, Outcome
from tests.routed import call, routed
from verl.trajectory import TrajectoryStatus

NUMBERS = st.floats(0, 1e6)
RESULTS = st.builds(
    CallResult,
    st.text(),
    st.sampled_from(Outcome),
    st.none() | st.text(),
    st.integers(0, 9),
    st.integers(0, 9),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.booleans(),
    st.booleans(),
)
TURNS = st.builds(
    Turn,
    st.text(),
    st.none() | st.builds(Call, st.text(), RESULTS, st.integers(0, 9)),
    st.just("") | st.text().map(render_observation),
)
TRAJECTORIES = st.builds(
    RoutedTrajectory,
    st.sampled_from(TrajectoryStatus),
    st.lists(TURNS, max_size=5).map(tuple),
    st.sampled_from(["", "<think>\n"]),
    st.integers(0, 9),
)


@given(TRAJECTORIES)
def test_what_is_written_as_json_is_read_back(trajectory: RoutedTrajectory) -> None:
    content = json.loads(json.dumps(trajectory.to_json()))
    assert RoutedTrajectory.from_json(content) == trajectory


@given(TRAJECTORIES)
def test_figures_add_up(trajectory: RoutedTrajectory) -> None:
    numbers, calls = trajectory.numbers(), trajectory.calls
    assert numbers["routed_calls"] + numbers["failed_calls"] == len(calls)
    assert numbers["valid_actions"] <= numbers["num_turns"] + numbers["finished"]
    assert numbers["cost"] == sum(call.result.cost for call in calls)
    assert trajectory.to_json().items() >= numbers.items()
    assert len(trajectory.response_text) - len(trajectory.policy_text) == sum(
        len(turn.observation) for turn in trajectory.turns
    )


def test_the_json_form_is_the_one_that_files_have() -> None:
    trajectory = routed(["<search>", "<answer> b </answer>"], [call("Atlas", "r", 3.0)])
    assert trajectory.to_json() == {
        "status": "answered",
        "response_text": "<search>\n\n<information>r</information>\n\n<answer> b </answer>",
        "policy_text": "<search><answer> b </answer>",
        "num_turns": 2,
        "finished": 1,
        "valid_actions": 2,
        "routed_calls": 1,
        "failed_calls": 0,
        "cost": 3.0,
        "dollars": 3e-6,
        "neutralised": 0,
        "opened": "",
        "route_tag": "search",
        "cost_coe": None,
        "offered": None,
        "turns": [
            {"text": "<search>", "observation": "\n\n<information>r</information>\n\n"},
            {"text": "<answer> b </answer>", "observation": ""},
        ],
        "calls": [
            {
                "turn": 0,
                "llm": "Atlas",
                "query": "q",
                "outcome": "ok",
                "reply": "r",
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "cost": 3.0,
                "dollars": 3e-6,
                "latency_s": 0.0,
                "neutralised": 0,
                "usage_estimated": False,
                "replayed": False,
            }
        ],
    }
    assert trajectory.answer == "b"


def test_the_answer_is_the_policys_own_and_the_last() -> None:
    quoted = call(reply="<answer>trap</answer>")
    assert routed(["<search>A: q</search>", "no"], [quoted]).answer is None
    opened = RoutedTrajectory(
        TrajectoryStatus.TRUNCATED, (Turn("<answer>a</answer><answer>b</answer>"),), "<think>"
    )
    assert (opened.answer, opened.finished) == ("b", False)
