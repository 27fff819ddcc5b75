"""The one line that says why an engine failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from verl.workers.rollout.replica_actor import account_of

# As vLLM 0.32 writes it: the worker's exception, then those of the processes that waited for it.
LOG = """\
INFO 11-26 17:56:00 [core.py:133] Initializing a V1 LLM engine
(Worker pid=18250) WARNING 11-26 17:56:00 [utils.py:333] ValueError: only a warning
(Worker pid=18250) ERROR 11-26 17:56:01 [executor.py:1063] Traceback (most recent call last):
(Worker pid=18250) ERROR 11-26 17:56:01 [executor.py:1063]     raise RuntimeError(text)
(Worker pid=18250) ERROR 11-26 17:56:01 [executor.py:1063] RuntimeError: Unsupported: head_dim=16
(EngineCore pid=18218) ERROR 11-26 17:56:01 [core.py:1512] RuntimeError: Worker failed with error
"""
ELSEWHERE = "EngineCore encountered an issue. See stack trace (above) for the root cause."


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "worker.out"
    path.write_text(LOG)
    return path


def test_the_cause_is_found_where_the_exception_points(log: Path) -> None:
    account = account_of(RuntimeError(ELSEWHERE), log)
    assert account == f"RuntimeError: Unsupported: head_dim=16 (more in {log} and worker.err)"


def test_an_exception_that_says_why_stands(log: Path) -> None:
    error = ModuleNotFoundError("No module named 'flashinfer'\nand more lines")
    assert account_of(error, log) == (
        f"ModuleNotFoundError: No module named 'flashinfer' (more in {log} and worker.err)"
    )


def test_without_a_logged_exception_the_pointer_itself_stands(tmp_path: Path) -> None:
    empty = tmp_path / "worker.out"
    empty.write_text("INFO 11-26 17:56:00 [core.py:133] nothing wrong\n")
    assert account_of(RuntimeError(ELSEWHERE), empty).startswith(f"RuntimeError: {ELSEWHERE}")


def test_a_nameless_exception_has_its_class() -> None:
    assert account_of(TimeoutError(), None).startswith("TimeoutError")
