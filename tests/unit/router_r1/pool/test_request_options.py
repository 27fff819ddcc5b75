"""Request options: what they change, what they refuse, and what advice an endpoint's words give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from router_r1.pool.advice import advise, as_yaml
from router_r1.pool.config import PoolConfig
from router_r1.pool.request_options import RequestOptions
from tests.pool_stub import pool_at
from verl.config.validation import ConfigError, to_dataclass
from verl.errors import UserError

SAMPLING = {"temperature": 0.0, "top_p": 1.0, "seed": 42, "max_tokens": 512}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, SAMPLING),
        ({"omit": ["seed", "top_p"]}, {"temperature": 0.0, "max_tokens": 512}),
        (
            {"rename": {"max_tokens": "max_completion_tokens", "seed": "random_seed"}},
            {"temperature": 0.0, "top_p": 1.0, "random_seed": 42, "max_completion_tokens": 512},
        ),
        (
            {"extra_body": {"top_p": 0.9, "k": {"a": [1]}}},
            {**SAMPLING, "top_p": 0.9, "k": {"a": [1]}},
        ),
        (
            {"extra_body": {"seed": 7}, "rename": {"seed": "random_seed"}},
            {"temperature": 0.0, "top_p": 1.0, "random_seed": 7, "max_tokens": 512},
        ),
        ({"stream": True}, SAMPLING),
    ],
)
def test_options_change_the_body(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert RequestOptions(**options).parameters(SAMPLING) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extra_body": {"max_tokens": 9}}, "cannot set 'max_tokens'; use max_tokens"),
        ({"extra_body": {"max_completion_tokens": 9}}, "request.rename"),
        ({"extra_body": {"stream": True}}, "request.stream"),
        ({"extra_body": {"n": 4}}, "cannot set 'n'"),
        ({"extra_body": {"model": "x"}}, "cannot set 'model'"),
        ({"extra_body": {"x": float("nan")}}, "cannot be sent as JSON"),
        ({"omit": ["sed"]}, "names sed; it can name: temperature"),
        ({"rename": {"top_k": "k"}}, "names top_k"),
        ({"rename": {"seed": "model"}}, "taken: 'model'"),
        ({"rename": {"seed": "x"}, "extra_body": {"x": 1}}, "taken: 'x'"),
        ({"rename": {"seed": "x", "top_p": "x"}}, "taken: 'x'"),
        ({"omit": ["seed"], "extra_body": {"seed": 1}}, "leaves seed out"),
        ({"extra_headers": {"a b": "c"}}, "cannot be the name of a further header"),
        ({"extra_headers": {"content-length": "3"}}, "cannot be the name of a further header"),
        ({"extra_body": {"best_of": 4}}, "cannot set 'best_of'"),
        ({"extra_headers": {"X": "a\nb"}}, r"value of X .* U\+000A"),
        ({"extra_headers": {"Authorization": "sk-planted"}}, "extra_headers_env"),
        ({"extra_headers": {"api-key": "sk-planted"}}, "looks like a secret"),
        ({"streams": True}, "unknown config key"),
        ({"omit": "seed"}, "omit"),
    ],
)
def test_a_wrong_option_is_refused_in_the_pool_file(options: dict[str, Any], words: str) -> None:
    llm = {"name": "A", "model": "a", "completion_price": 1.0, "request": options}
    with pytest.raises(UserError, match=words) as caught:
        to_dataclass(OmegaConf.create({"name": "p", "llms": [llm]}), PoolConfig)
    assert "sk-planted" not in str(caught.value)


def test_a_budget_needs_max_tokens() -> None:
    options = RequestOptions(omit=["max_tokens"])
    assert pool_at("http://host/v1", request=options).budget_usd is None
    with pytest.raises(ConfigError, match="leaves max_tokens out for A"):
        pool_at("http://host/v1", request=options, budget_usd=1.0)


PLAIN = RequestOptions()


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        ("422: extra field ['seed', 'top_p']", PLAIN, RequestOptions(omit=["top_p", "seed"])),
        ("422: body.seed: Extra inputs are not permitted", PLAIN, RequestOptions(omit=["seed"])),
        (
            "400: Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead. max_tokens unsupported_parameter",
            PLAIN,
            RequestOptions(rename={"max_tokens": "max_completion_tokens"}),
        ),
        (
            "422: extra field ['max_tokens']",
            PLAIN,
            RequestOptions(rename={"max_tokens": "max_completion_tokens"}),
        ),
        (
            "422: unknown seed, use random_seed",
            PLAIN,
            RequestOptions(rename={"seed": "random_seed"}),
        ),
        (
            "400: Unsupported value: 'temperature' does not support 0 with this model. Only the "
            "default (1) value is supported.",
            PLAIN,
            RequestOptions(omit=["temperature"]),
        ),
        (
            "400: `temperature` and `top_p` cannot both be specified",
            PLAIN,
            RequestOptions(omit=["top_p"]),
        ),
        (
            "422: extra field ['stream_options']",
            RequestOptions(stream=True),
            RequestOptions(stream=True, omit=["stream_options"]),
        ),
        ("400: This model only supports stream mode, set stream=True", PLAIN, "stream"),
        ("400: stream must be set to true", PLAIN, "stream"),
        ("400: Streaming is required for this model", PLAIN, "stream"),
        (
            "400: parameter.enable_thinking must be set to false for non-streaming calls",
            PLAIN,
            RequestOptions(extra_body={"enable_thinking": False}),
        ),
        (
            "422: body.reasoning: Extra inputs are not permitted",
            RequestOptions(extra_body={"reasoning": {"effort": "low"}}),
            PLAIN,
        ),
        (
            "422: body.random_seed: Extra inputs are not permitted",
            RequestOptions(rename={"seed": "random_seed"}),
            RequestOptions(omit=["seed"]),
        ),
        (
            "400: max_tokens is too large: 512. This model's maximum context length is 99",
            PLAIN,
            None,
        ),
        ("400: 'n' must be set to false", PLAIN, None),
        ("404: The model does not exist", PLAIN, None),
        ("401: bad key", PLAIN, None),
    ],
)
def test_the_endpoints_words_name_the_change(
    words: str, before: RequestOptions, after: RequestOptions | str | None
) -> None:
    if after == "stream":
        after = replace(PLAIN, stream=True)
    assert advise(words, before) == after


def test_the_yaml_reads_back() -> None:
    options = RequestOptions(
        extra_body={"reasoning": {"effort": "low"}},
        rename={"max_tokens": "max_completion_tokens"},
        omit=["seed"],
        stream=True,
    )
    read = yaml.safe_load(as_yaml(options))
    assert set(read["request"]) == {"extra_body", "rename", "omit", "stream"}
    assert RequestOptions(**read["request"]) == options
