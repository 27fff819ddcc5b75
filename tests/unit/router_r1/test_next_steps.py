"""The end of a training names commands that can be copied as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from router_r1.summary import next_commands

QUESTION = 'Who\'s the captain of "Tego Govon"?'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder in the working directory, with a checkpoint."""
    monkeypatch.chdir(tmp_path)
    actor = tmp_path / "outputs" / "my run" / "checkpoints" / "global_step_3" / "actor"
    actor.mkdir(parents=True)
    (actor / "config.json").write_text("{}", encoding="utf-8")
    return tmp_path / "outputs" / "my run"


def test_commands_can_be_pasted_into_a_shell(run: Path) -> None:
    (ask, _), (report, _) = next_commands(run, QUESTION)
    program, *arguments = shlex.split(ask)
    assert program.endswith("router-r1")
    actor = "outputs/my run/checkpoints/global_step_3/actor"
    assert arguments == ["ask", "--question", QUESTION, "--model_path", actor]
    assert shlex.split(report)[1:] == ["report", "outputs/my run"]


def test_a_run_without_a_checkpoint_has_no_router_to_ask(tmp_path: Path) -> None:
    ((report, _),) = next_commands(tmp_path, QUESTION)
    assert shlex.split(report)[1:] == ["report", str(tmp_path)]
