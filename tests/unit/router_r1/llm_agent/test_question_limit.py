"""What the calls of a question may come to: stated, taught and counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_r1.config import RouterConfig
from router_r1.forecast import Forecast, forecast
from router_r1.inference.arguments import RouterArguments
from router_r1.inference.settings import resolve
from router_r1.llm_agent.prompt import STYLES, build_prompt_template
from router_r1.llm_agent.question_limit import QuestionLimit
from router_r1.pool.client import PoolClient
from router_r1.pool.config import PoolConfig
from router_r1.pool.offer import OfferedPool
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.task import RoutingTask
from router_r1.world.cold_start.policy import create_policy, world_tokenizer
from router_r1.world.cold_start.routing_gate import ColdStartGate
from router_r1.world.cold_start.setting import Setting
from router_r1.world.cold_start.traces import TraceDataset
from router_r1.world.config import ColdStartConfig, PolicySize
from tests.pool_stub import ok, pool_at, stub
from verl.config.validation import ConfigError
from verl.trainer.launch import load_task_config

RESULTS = st.lists(
    st.builds(
        CallResult,
        st.just("Atlas"),
        st.sampled_from(Outcome),
        dollars=st.floats(0, 1),
    ),
    max_size=6,
)


@given(RESULTS, st.floats(0, 1))
def test_both_limits_hold_and_what_was_not_sent_does_not_count(
    earlier: list[CallResult], most: float
) -> None:
    unsent = {"unknown_llm", "question_limit", "budget", "unavailable", "not_recorded"}
    calls = [result for result in earlier if result.outcome.value not in unsent]
    spent = sum(result.dollars for result in earlier)
    assert QuestionLimit().allows(earlier, most)
    assert QuestionLimit(calls=2).allows(earlier, most) == (len(calls) < 2)
    assert QuestionLimit(usd=0.5).allows(earlier, most) == (spent + most <= 0.5)
    assert QuestionLimit(2, 0.5).allows(earlier, most) == (len(calls) < 2 and spent + most <= 0.5)


@pytest.mark.parametrize("style", STYLES)
def test_a_prompt_states_the_limit_or_is_what_it_was(style: str, embedded_pool: PoolConfig) -> None:
    def template(limit: QuestionLimit | None) -> str:
        return build_prompt_template(style, embedded_pool, limit=limit)

    assert template(QuestionLimit()) == template(None)
    both = template(QuestionLimit(calls=1, usd=0.0001234))
    if style == "compact":
        said = "At most 1 call.\nAt most $0.0001234.\n"
    else:
        said = "at most 1 call and $0.0001234."
    assert said in both
    assert "2 calls" in template(QuestionLimit(calls=2))
    assert both.endswith("Question: {question}")


@pytest.mark.parametrize("wrong", ["calls=0", "calls=-1", "usd=0"])
def test_a_limit_that_allows_nothing_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match=rf"question_limit\.{wrong.split('=')[0]} must be > 0"):
        load_task_config(["recipe=quickstart", f"question_limit.{wrong}"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["question_limit.usd=1e-7", "state_prices=true"], "allows no call: the cheapest LLM"),
        (["question_limit.usd=0.001"], "the policy is told no price; set state_prices=true"),
    ],
)
def test_dollars_that_the_policy_cannot_spend_are_refused(settings: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_task_config(["recipe=quickstart", *settings])


def test_the_forecast_knows_the_limit() -> None:
    def of(*overrides: str) -> Forecast:
        _, config = load_task_config(["recipe=quickstart", *overrides])
        assert isinstance(config, RouterConfig)
        return forecast(config, config.pool, 100)

    free, one = of(), of("question_limit.calls=1")
    assert (free.most_calls, one.most_calls, one.expected_calls) == (300, 100, 100)
    assert one.most_dollars == pytest.approx(free.most_dollars / 3)
    assert of("question_limit.usd=1e-4", "state_prices=true").most_dollars == pytest.approx(0.01)


def test_a_limit_that_no_prompt_would_state_is_refused() -> None:
    with pytest.raises(ConfigError, match="question_limit and offer are for prompts that the run"):
        load_task_config(["recipe=paper_qwen", "prompt_style=null", "question_limit.calls=2"])


@pytest.mark.parametrize("recipe", ["quickstart", "paper_qwen"])
def test_a_run_states_its_limit_and_its_loop_keeps_it(recipe: str) -> None:
    task_class, config = load_task_config([f"recipe={recipe}", "question_limit.calls=2"])
    task = task_class(config)
    assert isinstance(task, RoutingTask)
    (message,) = task.messages({"extra_info": {"index": 0, "question": "Who is it?"}})
    assert "t most 2 calls" in message["content"]
    assert task.config.question_limit == QuestionLimit(calls=2)


def test_a_call_is_weighed_at_the_prices_that_the_question_is_offered() -> None:
    """At most 100 completion tokens: $ 2 per 1M in the pool's file, $ 4 as it is offered."""
    weighed: list[float] = []

    def allows(most_usd: float) -> bool:
        weighed.append(most_usd)
        return False

    async def ask(pool: PoolConfig, offered: OfferedPool | None) -> CallResult:
        client = PoolClient(pool)
        try:
            return await client.ask("A", "who?", offered, allows)
        finally:
            await client.close()

    with stub(lambda _: ok()) as endpoint:
        pool = pool_at(endpoint.url, max_tokens=100, prompt_price=0.0)
        (own,) = pool.llms
        dear = replace(pool, llms=[replace(own, completion_price=4.0)])
        for offered in (None, OfferedPool(dear, (own,))):
            assert asyncio.run(ask(pool, offered)).outcome is Outcome.QUESTION_LIMIT
        assert endpoint.sent == []
    assert weighed == pytest.approx([2e-4, 4e-4])


def test_traces_make_no_call_too_many(embedded_pool: PoolConfig, tmp_path: Path) -> None:
    setting = Setting(pool=embedded_pool, question_limit=QuestionLimit(calls=1))
    tokenizer = world_tokenizer(setting)
    tokenizer.save_pretrained(tmp_path)
    config = ColdStartConfig(copy_steps=0, no_reply_share=0.0)
    traces = TraceDataset(str(tmp_path), setting, config)
    texts = [str(tokenizer.decode(e["input_ids"])) for e in traces.sample_batch(0, 64)]
    assert all("At most 1 call." in text for text in texts)
    assert {text.count("</search>") - 1 for text in texts} == {1}, "the prompt shows one tag"
    assert 0 < sum("no reply" in text for text in texts) < 64
    assert tokenizer.unk_token is None or not any(str(tokenizer.unk_token) in t for t in texts)


def test_the_gate_wants_no_call_too_many(embedded_pool: PoolConfig) -> None:
    """A policy that stops after its one call, and then says that it does not know, is right."""
    setting = Setting(pool=embedded_pool, question_limit=QuestionLimit(calls=1))
    gate = ColdStartGate(setting, ColdStartConfig(), 64)
    right: dict[str, list[bool]] = {"names": [], "copies": [], "format": []}
    two_hops = 0
    for number, question in enumerate(gate._questions):
        first, *others = question.hops
        call = gate._phrases.call(embedded_pool.llms[0], first.domain, first.query, None)
        answer = "unknown" if others else question.answer
        two_hops += bool(others)
        gate._judge(call, number, 0, right)
        gate._judge(gate._phrases.answer.format(answer=answer), number, 1, right)
    assert two_hops
    assert all(those and all(those) for those in right.values())


def test_a_policy_of_the_cold_start_is_asked_with_the_limit_it_was_taught(
    embedded_pool: PoolConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "policy"
    setting = Setting(pool=embedded_pool, question_limit=QuestionLimit(calls=1))
    create_policy(setting, PolicySize(), seed=0, folder=folder)
    (folder / "cold_start.json").write_text(
        '{"pool_name": "embedded", "question_limit": {"calls": 1, "usd": null}}'
    )
    settings = resolve(RouterArguments(model_path=str(folder), pool="embedded"))
    assert settings.limits.question == QuestionLimit(calls=1)
