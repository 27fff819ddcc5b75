"""Calls and dollars that ``train.sh --check`` foretells, and what it says of the pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from router_r1.config import RouterConfig
from router_r1.forecast import forecast, forecast_lines, spending_totals
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.dollars import show_dollars
from router_r1.pool.loading import load_pool
from router_r1.pool.readiness import pool_lines
from router_r1.pool.recording import RecordingConfig
from router_r1.pool.request_options import RequestOptions
from router_r1.surroundings import RoutingSurroundings
from verl.forecast import PlannedRun
from verl.trainer.launch import load_task_config
from verl.utils.checklist import CheckLine, Verdict
from verl.utils.dataset import DataError

NOWHERE = "http://127.0.0.1:9/v1"


def load(*overrides: str) -> RouterConfig:
    config: RouterConfig = load_task_config(["recipe=paper_qwen", *overrides])[1]
    return config


def pool(**settings: object) -> PoolConfig:
    """Two LLMs that are offered, and a dearer one that is only resolvable."""
    llms = [
        LLMConfig("Cheap", "c", completion_price=1.0, prompt_price=0.5, max_tokens=100),
        LLMConfig("Dear", "d", completion_price=3.0, prompt_price=1.0, max_tokens=500),
        LLMConfig("Hidden", "h", completion_price=10.0, max_tokens=500, in_prompt=False),
    ]
    made = PoolConfig(name="mine", llms=llms, instruction="x" * 40, api_base=NOWHERE)
    return replace(made, **settings)  # type: ignore[arg-type]


def by_subject(lines: list[CheckLine]) -> dict[str, CheckLine]:
    return {line.subject: line for line in lines}


@pytest.mark.parametrize(
    ("overrides", "rows", "expected"),
    [
        # 225 steps of 64; before training and every 15 steps, 100 rows.
        ((), (640, 100), PlannedRun(225, 14400, 16, 1600)),
        (("trainer.test_freq=100",), (640, 100), PlannedRun(225, 14400, 4, 400)),
        (("trainer.test_freq=-1",), (640, 100), PlannedRun(225, 14400, 2, 200)),
        (("trainer.val_before_train=false",), (640, None), PlannedRun(225, 14400, 15, None)),
        (("trainer.val_only=true",), (640, 100), PlannedRun(0, 0, 1, 100)),
        # Two epochs of ten whole batches.
        (
            ("trainer.total_training_steps=null", "trainer.total_epochs=2"),
            (650, 100),
            PlannedRun(20, 1280, 3, 300),
        ),
        (("trainer.total_training_steps=null",), (None, 100), PlannedRun(None, None, None, None)),
        (("actor_rollout_ref.rollout.n_agent=4",), (640, 100), PlannedRun(225, 57600, 16, 1600)),
        (("algorithm.adv_estimator=remax",), (640, 100), PlannedRun(225, 28800, 16, 1600)),
    ],
)
def test_a_run_is_counted(
    overrides: tuple[str, ...], rows: tuple[int | None, int | None], expected: PlannedRun
) -> None:
    assert PlannedRun.of(load(*overrides), *rows) == expected


def test_dollars_by_hand() -> None:
    config = load("max_turns=3", "data.max_response_length=200")
    result = forecast(config, pool(), trajectories=1000)
    assert result.expected_calls == pytest.approx(1400)
    assert result.most_calls == 3000
    # 40 characters of instruction are 10 tokens, a query 40, a reply 170 but at most max_tokens.
    cheap = (10 + 40) * 0.5 + 100 * 1.0
    dear = (10 + 40) * 1.0 + 170 * 3.0
    assert result.expected_dollars == pytest.approx(1400 * (cheap + dear) / 2 / 1e6)
    # The hidden LLM is the dearest; its prompts are free.
    assert result.most_dollars == pytest.approx(3000 * 500 * 10.0 / 1e6)
    assert forecast(load("max_turns=1"), pool(), 1000).expected_calls == 1000


def test_prompts_count_in_the_most_that_calls_cost() -> None:
    config = load("max_turns=1", "data.max_response_length=200")
    dear_prompts = pool(
        llms=[LLMConfig("A", "a", completion_price=1.0, prompt_price=100.0, max_tokens=10)]
    )
    most = forecast(config, dear_prompts, 1).most_dollars
    assert most == pytest.approx(((40 + 200 + 64) * 100.0 + 10 * 1.0) / 1e6)


def test_a_budget_caps_what_is_foretold() -> None:
    result = forecast(load(), pool(budget_usd=0.5), 1_000_000)
    assert (result.expected_dollars, result.most_dollars) == (0.5, 0.5)


def test_calls_are_shown_with_what_they_are_counted_from() -> None:
    lines = by_subject(forecast_lines(load(), pool(), PlannedRun(225, 14400, 16, None)))
    assert lines["calls"].found.startswith("about 20,160, at most 57,600")
    assert "16 of unknown size" in lines["calls"].found
    assert "pool.budget_usd" in lines["dollars"].advice
    (unknown,) = forecast_lines(load(), pool(), PlannedRun(None, None, None, None))
    assert unknown.verdict is Verdict.UNKNOWN


def test_a_replay_costs_nothing_and_asks_nobody() -> None:
    replayed = pool(recording=RecordingConfig(mode="replay", path="calls.sqlite"))
    lines = forecast_lines(load(), replayed, PlannedRun(1, 64, 0, 0))
    assert by_subject(lines)["dollars"].found.startswith("none")
    assert [line.verdict for line in pool_lines(replayed, None)] == [Verdict.OK]


def test_a_tool_gets_no_instruction() -> None:
    tool = LLMConfig("Sum", kind="calculator", completion_price=3.0, prompt_price=1.0)
    tools = pool(llms=[tool], instruction="x" * 4000)
    one = forecast(load("max_turns=1"), tools, 1)
    assert one.expected_dollars == pytest.approx((40 * 1.0 + 170 * 3.0) / 1e6)


def test_a_corpus_is_looked_at_before_anything_starts_also_where_the_pool_is_simulated(
    tmp_path: Path,
) -> None:
    simulated = load_pool("tools")
    missing = LLMConfig("Gone", kind="search", corpus=f"{tmp_path}/gone", completion_price=1.0)
    config = load()
    config.pool = replace(simulated, llms=[*simulated.llms[:4], missing])
    with pytest.raises(DataError, match="no such corpus"):
        RoutingSurroundings(config).check()
    started, tool = pool_lines(config.pool, None)
    assert (started.verdict, tool.verdict) == (Verdict.OK, Verdict.NOT_OK)
    assert "no such corpus" in tool.found


def test_a_pool_without_prices_has_no_dollars() -> None:
    free = pool(llms=[LLMConfig("Free", "f", completion_price=0.0)])
    plan = PlannedRun(1, 64, 0, 0)
    assert list(by_subject(forecast_lines(load(), free, plan))) == ["calls"]
    assert spending_totals(free) == ()


def test_spending_is_on_the_progress_line_unless_calls_are_replayed() -> None:
    (total,) = spending_totals(pool(budget_usd=5.0))
    assert (total.metric, total.title, total.limit) == ("pool/spent_usd", "spent", 5.0)
    assert total.form(0.00941) == "$0.0094"
    replayed = pool(recording=RecordingConfig(mode="replay", path="calls.sqlite"))
    assert spending_totals(replayed) == ()


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0.00"), (1234.4, "$1,234"), (12.345, "$12.35"), (0.5, "$0.50"), (0.000123, "$0.00012")],
)
def test_dollars_are_written_with_the_digits_that_matter(amount: float, text: str) -> None:
    assert show_dollars(amount) == text


def test_each_endpoint_and_key_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_B", "sk-planted")
    monkeypatch.delenv("KEY_C", raising=False)
    monkeypatch.delenv("ROUTER_R1_API_KEY", raising=False)

    def llm(name: str, **settings: object) -> LLMConfig:
        return LLMConfig(name, name, completion_price=1.0, **settings)  # type: ignore[arg-type]

    two_places = pool(
        llms=[
            llm("A"),
            llm("B", api_key_env="KEY_B"),
            llm("C", api_key_env="KEY_C", base_url="http://192.0.2.1.invalid/v1"),
        ]
    )
    lines = pool_lines(two_places, None)
    endpoints = [line for line in lines if line.subject.startswith("pool endpoint")]
    assert [line.verdict for line in endpoints] == [Verdict.NOT_OK] * 3
    assert "does not answer" in endpoints[0].found
    keys = {line.subject: line for line in lines if line.subject.startswith("pool key")}
    assert keys["pool key $ROUTER_R1_API_KEY"].verdict is Verdict.OK  # a local server
    assert keys["pool key $KEY_B"].found == "set"
    assert keys["pool key $KEY_C"].verdict is Verdict.UNKNOWN
    assert "export KEY_C" in keys["pool key $KEY_C"].advice
    assert "sk-planted" not in str(lines)


def test_a_key_that_cannot_be_used_is_a_line_and_no_key_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A header's key that is unset, a key cut short by a display, an LLM that wants no key."""
    monkeypatch.delenv("HEADER_KEY", raising=False)
    monkeypatch.setenv("CUT_KEY", "sk-…")
    monkeypatch.delenv("ROUTER_R1_API_KEY", raising=False)

    def llm(name: str, **settings: object) -> LLMConfig:
        return LLMConfig(
            name,
            name,
            completion_price=1.0,
            base_url=f"http://127.0.0.1:9/{name}",
            **settings,  # type: ignore[arg-type]
        )

    needs_header = RequestOptions(extra_headers_env={"api-key": "HEADER_KEY"})
    llms = [
        llm("A", api_key_env="", request=needs_header),
        llm("B", api_key_env="CUT_KEY"),
        llm("C", api_key_env=""),
    ]
    lines = pool_lines(pool(llms=llms), None)
    endpoints = [line for line in lines if line.subject.startswith("pool endpoint")]
    assert [line.verdict for line in endpoints] == [Verdict.NOT_OK] * 3
    assert "$HEADER_KEY; it is unset" in endpoints[0].found
    assert "the key in $CUT_KEY holds" in endpoints[1].found
    assert "does not answer" in endpoints[2].found
    keys = [line.subject for line in lines if line.subject.startswith("pool key")]
    assert keys == ["pool key $CUT_KEY"]
