"""scripts/setup.sh says what is wrong; run on a copy, so that the real .venv is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "scripts/setup.sh"],
        cwd=folder,
        env={**os.environ, "ROUTER_R1_LOCK": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def put_on_path(folder: Path, name: str, script: str) -> str:
    tools = folder / "tools"
    tools.mkdir()
    (tools / name).write_text(f"#!/bin/sh\n{script}\n")
    (tools / name).chmod(0o755)
    return f"{tools}:{os.environ['PATH']}"


def test_nothing_to_do_is_quick_and_silent() -> None:
    lock = (ROOT / ".venv" / "installed").read_text().split()[0]
    start = time.monotonic()
    result = run(ROOT, ROUTER_R1_LOCK=lock)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert time.monotonic() - start < 10


def test_an_unknown_lock_is_named(copy: Path) -> None:
    result = run(copy, ROUTER_R1_LOCK="tpu")
    assert result.returncode == 1
    assert "ROUTER_R1_LOCK=tpu is unknown; choose cpu or cuda" in result.stderr


def test_an_old_python_is_refused(copy: Path) -> None:
    old = copy / "python3.8"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.1" && exit 0\nexit 1\n')
    old.chmod(0o755)
    result = run(copy, PYTHON=str(old))
    assert result.returncode == 1
    assert "Python 3.11, 3.12 or 3.13 is needed, found: Python 3.8.1" in result.stderr
    assert not (copy / ".venv").exists()


def test_a_full_disk_is_refused(copy: Path) -> None:
    df = r'printf "Filesystem 1024-blocks Used Available Capacity Mounted\nx 9 9 1048576 9 /\n"'
    result = run(copy, PATH=put_on_path(copy, "df", df), PYTHON=sys.executable)
    assert result.returncode == 1
    assert "has 1 GiB free, the installation needs 8 GiB" in result.stderr


def test_a_missing_wheel_is_named_and_leaves_no_stamp(copy: Path) -> None:
    """No index answers; the next run starts over instead of believing itself done."""
    (copy / "scripts" / "locks" / "cpu.lock").write_text("no-such-package==1.0\n")
    result = run(copy, PYTHON=sys.executable, PIP_NO_INDEX="1")
    assert result.returncode == 1
    assert "pip cannot install" in result.stderr
    assert "no-such-package" in result.stderr
    assert not (copy / ".venv" / "installed").exists()
