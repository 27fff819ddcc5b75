"""The example pools, each against a stub that behaves as its provider does; and what ``pool check``
says where a pool file lacks an option."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from router_r1.pool.client import PoolClient
from router_r1.pool.command import main
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.request_options import RequestOptions
from tests.pool_dialects import DIALECTS, mistral, only_streaming, openrouter, refusing, vllm
from tests.pool_stub import (
    Answer,
    Behaviour,
    StubEndpoint,
    completion,
    error,
    in_turn,
    ok,
    pool_at,
    stub,
)

KEYS = ("OPENROUTER_API_KEY", "AZURE_OPENAI_API_KEY", "MISTRAL_API_KEY", "VLLM_API_KEY")


def moved(pool: PoolConfig, url: str) -> PoolConfig:
    """The pool with its hosts replaced by a stub's; paths and queries stay."""
    host = urlsplit(url).netloc

    def move(place: str | None) -> str | None:
        if place is None:
            return None
        return urlsplit(place)._replace(scheme="http", netloc=host).geturl()

    llms = [replace(llm, base_url=move(llm.base_url)) for llm in pool.llms]
    return replace(pool, llms=llms, api_base=move(pool.api_base))


@contextmanager
def example(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PoolConfig, Any]]:
    for variable in KEYS:
        monkeypatch.setenv(variable, f"sk-of-{variable}")
    monkeypatch.delenv("ROUTER_R1_API_KEY", raising=False)
    with stub(DIALECTS[name]) as endpoint:
        yield moved(load_pool(name), endpoint.url), endpoint


def ask_each(pool: PoolConfig, query: str = "Who wrote Dune?") -> list[CallResult]:
    async def run() -> list[CallResult]:
        client = PoolClient(pool)
        try:
            return [await client.ask(llm.name, query) for llm in pool.llms]
        finally:
            await client.close()

    return asyncio.run(run())


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_an_example_works_at_its_kind_of_endpoint(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with example(name, monkeypatch) as (pool, endpoint):
        results = ask_each(pool)
    assert [(r.outcome, r.text, r.detail) for r in results] == [(Outcome.OK, "Herbert", "")] * len(
        pool.llms
    )
    assert not any(r.usage_estimated for r in results)
    assert len(endpoint.sent) == len(pool.llms), "none was retried"
    for llm in pool.offered:
        assert pool.resolve(llm.name) is llm
        assert llm.descriptor
        assert llm.prompt_price > 0


@pytest.mark.parametrize("name", sorted(set(DIALECTS) - {"ollama", "vllm", "openrouter"}))
def test_the_examples_options_are_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with example(name, monkeypatch) as (pool, _):
        plain = replace(pool, llms=[replace(llm, request=RequestOptions()) for llm in pool.llms])
        outcomes = Counter(result.outcome for result in ask_each(plain))
    assert outcomes == {Outcome.REFUSED: len(pool.llms)}


def test_reasoning_in_each_dialect_is_billed_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thinking = {"openrouter": "DeepSeek-R1", "mistral": "Magistral-Small", "azure": "o4-mini"}
    for name, llm in {**thinking, "vllm": "Qwen3-8B-Thinking"}.items():
        with example(name, monkeypatch) as (pool, _):
            results = {result.llm: result for result in ask_each(pool)}
        assert (results[llm].text, results[llm].completion_tokens) == ("Herbert", 40)


def test_openrouters_errors_of_providers_are_retried() -> None:
    with stub(openrouter) as endpoint:
        pool = pool_at(endpoint.url, model="some/model:free", max_retries=2)
        (result,) = ask_each(pool)
    assert result.outcome is Outcome.RATE_LIMITED
    assert len(endpoint.sent) == 3
    assert "free tier is busy" in result.detail


def test_a_query_too_long_for_vllm_is_the_policys_mistake() -> None:
    with stub(vllm) as endpoint:
        (result,) = ask_each(pool_at(endpoint.url), "Who? " * 1000)
    assert result.outcome is Outcome.INVALID_QUERY
    assert not result.outcome.infrastructure


def checked(
    behaviour: Behaviour, tmp_path: Path, request: dict[str, Any] | None = None
) -> tuple[int, StubEndpoint, Path]:
    """Runs ``pool check`` on a pool of one LLM."""
    path = tmp_path / "mine.yaml"
    llm = {"name": "A", "model": "a", "completion_price": 1.0, "request": request or {}}
    with stub(behaviour) as endpoint:
        path.write_text(yaml.safe_dump({"name": "mine", "api_base": endpoint.url, "llms": [llm]}))
        return main(["check", str(path)]), endpoint, path


@pytest.mark.parametrize(
    ("behaviour", "request_options", "words"),
    [
        (refusing("seed"), {"omit": ["seed"]}, "extra field ['seed']"),
        (refusing("top_p", "seed"), {"omit": ["top_p", "seed"]}, "extra field ['top_p', 'seed']"),
        (refusing("temperature"), {"omit": ["temperature"]}, "'temperature'"),
        (
            refusing("max_tokens"),
            {"rename": {"max_tokens": "max_completion_tokens"}},
            "'max_tokens'",
        ),
        (mistral, {"omit": ["seed"]}, "Extra inputs are not permitted"),
        (only_streaming, {"stream": True}, "please set stream=True"),
    ],
)
def test_check_prints_the_endpoints_words_and_the_yaml_that_mends_it(
    behaviour: Behaviour,
    request_options: dict[str, Any],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, _ = checked(behaviour, tmp_path)
    output = capsys.readouterr().out
    assert code == 1
    assert words in " ".join(output.split())
    assert "with it, the LLM answers" in output
    lines = output.partition("the LLM answers:\n")[2].splitlines()
    shown = itertools.takewhile(lambda line: line.startswith("    "), lines)
    printed = yaml.safe_load("\n".join(shown))
    assert printed == {"request": request_options}
    assert checked(behaviour, tmp_path, printed["request"])[0] == 0


def test_check_finds_fields_that_are_named_one_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def one_at_a_time(sent: Any) -> Any:
        for field in ("max_tokens", "temperature", "top_p", "seed"):
            if field in sent.body:
                return refusing(field)(sent)
        return ok()

    code, endpoint, _ = checked(one_at_a_time, tmp_path)
    output = capsys.readouterr().out
    assert code == 1
    assert len(endpoint.sent) == 5
    assert "omit: [temperature, top_p, seed]" in output
    assert "rename: {max_tokens: max_completion_tokens}" in output


def test_check_takes_no_advice_from_a_failure_that_is_not_the_requests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, _ = checked(lambda _: error(500, "enable_thinking must be set to false"), tmp_path)
    output = capsys.readouterr().out
    assert code == 1
    assert "500" in output
    assert "change its entry" not in output


def test_check_gives_up_where_the_words_name_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, endpoint, _ = checked(refusing("model"), tmp_path)
    output = capsys.readouterr().out
    assert code == 1
    assert len(endpoint.sent) == 1
    assert "extra field ['model']" in output
    assert "change its entry" not in output


@pytest.mark.parametrize(
    ("finish_reason", "words"),
    [
        ("length", ("ended at max_tokens; 2 tokens were billed", "raise it")),
        ("content_filter", ("a content filter", "2 tokens were billed", "loosen the filter")),
    ],
)
def test_check_says_what_an_empty_reply_needs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    finish_reason: str,
    words: tuple[str, ...],
) -> None:
    answer = completion({"content": "<think>hm"}, finish_reason, 9, 2)
    code, _, _ = checked(in_turn(answer), tmp_path)
    assert code == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "an empty reply (" in told
    assert all(word in told for word in words)


def test_check_does_not_wait_for_long_where_the_pool_file_lets_calls_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, endpoint, _ = checked(in_turn(Answer({}, 429, {"Retry-After": "120"})), tmp_path)
    assert (code, len(endpoint.sent)) == (1, 1)
    assert "rate limited" in capsys.readouterr().out


def test_check_of_a_bad_key_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTER_R1_API_KEY", "sk-…cut")
    code, endpoint, _ = checked(in_turn(ok()), tmp_path)
    captured = capsys.readouterr()
    assert code == 2
    assert not endpoint.sent
    said = " ".join((captured.out + captured.err).split())
    assert "the key in $ROUTER_R1_API_KEY holds a character that a header cannot" in said
    assert "Traceback" not in said
