"""What ``train.sh --check`` says of drivers and compilers."""

from __future__ import annotations

from pathlib import Path

import pytest

from verl.trainer.check.software import compiler_line, compute_mode_line, driver_line
from verl.utils.checklist import Verdict


def test_an_old_driver_is_refused() -> None:
    assert driver_line("575.57.08", "13.0").verdict is Verdict.NOT_OK
    assert driver_line("580.65.06", "13.0").verdict is Verdict.OK
    assert driver_line("535.104.05", "12.8").verdict is Verdict.OK
    assert driver_line("580.65.06", "99.0").verdict is Verdict.UNKNOWN
    without_cuda = driver_line("580.65.06", None)
    assert without_cuda.verdict is Verdict.NOT_OK
    assert "VERL_LOCK=cuda" in without_cuda.advice


def test_exclusive_mode_is_refused() -> None:
    assert compute_mode_line(["Default", "Default"]).verdict is Verdict.OK
    line = compute_mode_line(["Default", "Exclusive_Process"])
    assert (line.verdict, line.found) == (Verdict.NOT_OK, "Exclusive_Process")
    assert "nvidia-smi -c DEFAULT" in line.advice


def test_compiler_and_headers_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    line = compiler_line(None, tmp_path)
    assert line.verdict is Verdict.NOT_OK
    assert line.found == "no C compiler and no Python.h"
    (tmp_path / "Python.h").touch()
    compiler = tmp_path / "mycc"
    compiler.touch(mode=0o755)
    assert compiler_line("mycc", tmp_path).verdict is Verdict.OK
    assert compiler_line(None, tmp_path).found == "no C compiler"
