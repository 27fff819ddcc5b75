"""The tags: found, streamed and neutralised alike, whatever the routing tag is called."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_r1.evaluation.viewer.segments import split_response
from router_r1.llm_agent.parsing import parse_action
from router_r1.llm_agent.prompt import STYLES, build_prompt_template
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.reward import format_reward
from router_r1.tags import ROUTE_TAGS, SectionReader, Tags
from tests.routed import call, routed
from verl.config.validation import ConfigError

SEARCH, ROUTE = map(Tags, ROUTE_TAGS)
NAME = "{name}"  # stands for the routing tag's name
PIECES = (
    *(
        f"<{slash}{name}>"
        for name in ("think", NAME, "information", "answer")
        for slash in ("", "/")
    ),
    *(f"< / {NAME} >", f"<{NAME} x>", f"</{NAME}", f"<{NAME}", "<", "Atlas: q", "Nobody: q", ": "),
    f"<think> a</think><{NAME}> Atlas: q</{NAME}><information>x</information>",
    "<think> a</think><answer>b</answer>",
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
WHOLE = "x <b <think> a</b> </think><search>A: q</search>\n\n<information>1 < 2</information><ans"


def with_tag(text: str, tags: Tags) -> str:
    return text.replace(NAME, tags.route)


def as_template(text: str, tags: Tags) -> str:
    return text.replace(tags.route, NAME)


def test_a_text_that_almost_holds_a_tag_is_read_in_time_that_grows_as_it_does() -> None:
    text = "<" + " " * 200_000 + "x"
    start = time.monotonic()
    assert SEARCH.neutralise(text) == (text, 0)
    assert time.monotonic() - start < 5
    assert SEARCH.neutralise("<  /  think  > < search x>") == ("(  /  think  ) ( search x)", 2)


@pytest.mark.parametrize("tags", [SEARCH, ROUTE])
@given(sizes=st.lists(st.integers(1, 7), max_size=80))
def test_sections_do_not_depend_on_the_cuts(tags: Tags, sizes: list[int]) -> None:
    reader = SectionReader(tags)
    pieces: list[tuple[str, str]] = []
    rest = WHOLE.replace("search", tags.route)
    for size in [*sizes, len(WHOLE)]:
        pieces += reader.push(rest[:size])
        rest = rest[size:]
    pieces += reader.end()
    merged: list[tuple[str, str]] = []
    for section, text in pieces:
        if merged and merged[-1][0] == section:
            text = merged.pop()[1] + text
        merged.append((section, text))
    assert merged == [
        ("", "x <b "),
        ("think", " a</b> "),
        ("search", "A: q"),
        ("", "\n\n"),
        ("information", "1 < 2"),
        ("", "<ans"),
    ]


@given(TEXTS)
def test_both_names_are_parsed_and_scored_alike(embedded_pool: PoolConfig, template: str) -> None:
    search, route = (with_tag(template, tags) for tags in (SEARCH, ROUTE))
    ours, theirs = parse_action(search, SEARCH), parse_action(route, ROUTE)
    assert replace(theirs, content=as_template(theirs.content, ROUTE)) == replace(
        ours, content=as_template(ours.content, SEARCH)
    )
    scores = [
        format_reward(t, embedded_pool, tags=g) for t, g in ((search, SEARCH), (route, ROUTE))
    ]
    assert scores[0] == scores[1]
    cut = [as_template(g.cut_after_stop(t), g) for t, g in ((search, SEARCH), (route, ROUTE))]
    assert cut[0] == cut[1]


@given(TEXTS)
def test_both_names_are_streamed_drawn_and_neutralised_alike(template: str) -> None:
    seen = []
    for tags in (SEARCH, ROUTE):
        text = with_tag(template, tags)
        harmless, count = tags.neutralise(text)
        assert not any(literal in harmless for literal in tags.literals)
        trajectory = replace(routed([text, text], [call()]), tags=tags)
        blocks = [
            (block.kind, as_template(block.text, tags), block.call)
            for block in split_response(trajectory)
        ]
        reader = SectionReader(tags)
        pieces = [
            (section, as_template(piece, tags))
            for section, piece in [*reader.push(text), *reader.end()]
        ]
        assert RoutedTrajectory.from_json(trajectory.to_json()) == trajectory
        seen.append((as_template(harmless, tags), count, blocks, pieces))
    assert seen[0] == seen[1]


def test_the_other_name_is_plain_text(embedded_pool: PoolConfig) -> None:
    text = "<think>a</think><search>Atlas: q</search><information>x</information><answer>b</answer>"
    assert format_reward(text, embedded_pool) == 0.0
    assert format_reward(text, embedded_pool, tags=ROUTE) == -1.0
    assert parse_action(text, ROUTE).kind == "answer"
    assert ROUTE.neutralise("<search>")[0] == "<search>"


@pytest.mark.parametrize("style", STYLES)
def test_prompts_differ_in_the_tag_alone(style: str, embedded_pool: PoolConfig) -> None:
    search, route = (build_prompt_template(style, embedded_pool, tags) for tags in (SEARCH, ROUTE))
    assert search.replace("search>", "route>") == route
    assert search == build_prompt_template(style, embedded_pool)
    assert f"<{ROUTE.route}>" in route


def test_another_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="route_tag='ask'"):
        Tags("ask")
