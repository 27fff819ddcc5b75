"""A run's folder says what code, packages and hardware it was made with."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path

from verl.trainer.environment import describe_code, write_environment


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *author, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_code_is_a_commit_and_what_differs_from_it(tmp_path: Path) -> None:
    assert describe_code(tmp_path) == {"git_commit": None, "git_dirty": None}
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1", encoding="utf-8")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-qm", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "output").write_text("not code", encoding="utf-8")
    assert describe_code(tmp_path) == {"git_commit": commit, "git_dirty": False}
    (tmp_path / "code.py").write_text("2", encoding="utf-8")
    assert describe_code(tmp_path) == {"git_commit": commit, "git_dirty": True}


def test_packages_and_hardware_are_named(tmp_path: Path) -> None:
    write_environment(tmp_path)
    content = json.loads((tmp_path / "environment.json").read_text(encoding="utf-8"))
    assert content["packages"]["torch"] == version("torch")
    assert content["packages"]["flash-attn"] is None or content["packages"]["flash-attn"]
    assert content["hardware"]["cpus"] >= 1
    assert content["hardware"]["memory_gib"] > 0
    write_environment(tmp_path / "environment.json" / "below a file")  # ends nothing
