"""A run does not die of its tracker, and wandb says why it is offline."""

from __future__ import annotations

import json
import logging
import resource
import signal
import socket
import threading
from pathlib import Path

import pytest

from verl.utils.tracking import JsonlBackend, TensorBoardBackend, Tracking
from verl.utils.wandb_login import choose_mode

WANDB_VARIABLES = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC", "HOME")


@pytest.fixture
def nobody_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*WANDB_VARIABLES, "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("a file where the folder should be", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        tracking = Tracking(["jsonl", "tensorboard"], tmp_path, "p", "e", {})
        for step in range(3):
            tracking.log({"x": float(step)}, step)
        tracking.close()
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]
    warnings = [record.getMessage() for record in caplog.records]
    assert len([text for text in warnings if text.startswith("tensorboard is off")]) == 1


def test_tensorboard_forgets_the_steps_that_are_taken_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for after_step, values in ((None, {1: 1.0, 2: 2.0, 3: 3.0}), (1, {2: 20.0})):
        backend = TensorBoardBackend(tmp_path, after_step)
        for step, value in values.items():
            backend.log({"x": value}, step)
        backend.close()
    told = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("x")
    assert [(event.step, event.value) for event in told] == [(1, 1.0), (2, 20.0)]


def test_a_disk_that_fills_up_leaves_whole_lines_and_a_living_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit on file sizes stands in for the full disk: writes are cut short, then fail."""
    tracking = Tracking(["jsonl"], tmp_path, "p", "e", {})
    tracking.log({"x": 0.0}, 0)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, old[1]))
        with caplog.at_level(logging.WARNING):
            tracking.log({"x": 1.0}, 1)
            tracking.log({"x": 2.0}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    tracking.log({"x": 3.0}, 3)
    tracking.close()
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 3]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("jsonl did not take the metrics of step 1, and the run goes on")


def test_what_is_no_number_becomes_null(tmp_path: Path) -> None:
    backend = JsonlBackend(tmp_path / "m.jsonl")
    backend.log({"a": float("nan"), "b": float("inf"), "c": 1.0}, 7)
    backend.close()
    line = json.loads((tmp_path / "m.jsonl").read_text(encoding="utf-8"))
    assert line == {"step": 7, "a": None, "b": None, "c": 1.0}


@pytest.mark.usefixtures("nobody_at_home")
def test_wandb_without_a_login_says_so() -> None:
    assert choose_mode()[0] == "offline"
    assert "there is no login" in choose_mode()[1]


@pytest.mark.parametrize("place", [".netrc", "_netrc", "elsewhere"])
def test_a_login_in_netrc_is_one(
    place: str, nobody_at_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With something that listens at the server's address."""
    path = nobody_at_home / place
    path.write_text("machine 127.0.0.1 login user password 0123\n", encoding="utf-8")
    path.chmod(0o600)
    if place == "elsewhere":
        monkeypatch.setenv("NETRC", str(path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("WANDB_BASE_URL", url)
        assert choose_mode() == ("online", "")
    mode, reason = choose_mode()
    assert mode == "offline"
    assert reason == f"{url} cannot be reached from here"
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.2:9")
    assert "there is no login" in choose_mode()[1], "a login elsewhere is none here"


@pytest.mark.usefixtures("nobody_at_home")
def test_a_server_that_never_answers_costs_seconds_and_a_choice_of_the_users_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    never = threading.Event()
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: never.wait())
    monkeypatch.setattr("verl.utils.wandb_login._PATIENCE_S", 0.1)
    assert choose_mode()[0] == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    assert choose_mode() == ("online", "")
