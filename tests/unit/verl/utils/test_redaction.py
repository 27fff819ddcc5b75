from __future__ import annotations

import json
from pathlib import Path

import pytest

from verl.utils.redaction import REDACTED, redact, redact_override
from verl.utils.tracking import Tracking


@pytest.mark.parametrize("key", ["api_key", "API_KEY", "hf_token", "client_secret", "password"])
def test_secrets_go_whatever_their_depth(key: str) -> None:
    dump = redact({"a": [{"b": {key: "sk-1"}}], "c": (1, 2)})
    assert dump == {"a": [{"b": {key: REDACTED}}], "c": [1, 2]}


@pytest.mark.parametrize(
    "key", ["api_key_env", "max_tokens", "tokenizer_path", "ppo_max_token_len"]
)
def test_other_keys_stay(key: str) -> None:
    assert redact({key: "value"}) == {key: "value"}


def test_an_unset_secret_reads_as_unset() -> None:
    assert redact({"api_key": None}) == {"api_key": None}


def test_user_and_password_of_a_url_go() -> None:
    dump = redact({"api_base": "https://me:pw@host/v1", "mail": "me@host", "b": "http://host/@x"})
    assert dump == {"api_base": "https://***@host/v1", "mail": "me@host", "b": "http://host/@x"}


def test_keys_in_the_query_of_a_url_go() -> None:
    url = "https://host/v1?api-version=1&key=sk-1&Api_Key=sk-2&monkeys=3#part"
    shown = "https://host/v1?api-version=1&key=***&Api_Key=***&monkeys=3#part"
    assert redact({"api_base": url}) == {"api_base": shown}


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("api_key=sk-1", "api_key=***"),
        ("+pool.api_key=sk=1", "+pool.api_key=***"),
        ("pool.api_key_env=MY_KEY", "pool.api_key_env=MY_KEY"),
        ("cost_coe=0.9", "cost_coe=0.9"),
        ("--help", "--help"),
    ],
)
def test_the_command_line_is_shown_without_secrets(override: str, shown: str) -> None:
    assert redact_override(override) == shown


def test_metrics_reach_every_backend(tmp_path: Path) -> None:
    tracking = Tracking(["console", "jsonl", "tensorboard"], tmp_path, "p", "e", {})
    tracking.log({"critic/score/mean": 0.5}, 1)
    tracking.log({"critic/score/mean": 0.75}, 2)
    tracking.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 1, "critic/score/mean": 0.5},
        {"step": 2, "critic/score/mean": 0.75},
    ]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_tracker_that_fails_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "no-such-mode")
    tracking = Tracking(["jsonl", "wandb"], tmp_path, "p", "e", {})
    tracking.log({"x": 1.0}, 1)
    tracking.close()
    assert "wandb is off" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_text()
