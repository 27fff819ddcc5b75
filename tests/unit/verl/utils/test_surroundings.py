"""Odd machines: locales, long or closed folders, little shared memory, no account."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from ray.exceptions import RayError

from tests.integration.commands import ROOT
from verl.config.rollout import RolloutConfig
from verl.trainer.launch import load_task_config, run_as_command
from verl.utils.surroundings import (
    MIB,
    SurroundingsError,
    cache_folders,
    free_shared_memory,
    provide_ray_token,
    require_shared_memory,
    socket_folder,
)
from verl.workers.rollout import vllm_replica
from verl.workers.rollout.replica import reason_of
from verl.workers.rollout.vllm_replica import ReplicaSettings, shared_memory_needed

LONG = "/tmp/" + "x" * 85


def driver(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` as the body of a command, in an environment of its own."""
    program = (
        "from verl.trainer.launch import run_as_command\n"
        f"def main(overrides):\n    import os, tempfile\n    {code}\n"
        "run_as_command(main)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def test_a_temporary_folder_too_long_for_sockets_is_replaced(tmp_path: Path) -> None:
    assert socket_folder(None) is None
    assert socket_folder("/tmp/short") is None
    assert socket_folder(LONG, [str(tmp_path / "gone"), str(tmp_path)]) == str(tmp_path)
    with pytest.raises(SurroundingsError, match=r"TMPDIR=/tmp/x.*shorter folder"):
        socket_folder(LONG, [str(tmp_path / "gone")])


def test_little_shared_memory_is_refused_with_what_there_is_and_what_is_needed() -> None:
    with pytest.raises(SurroundingsError, match=r"has 4 MiB free and this run needs 96 MiB"):
        require_shared_memory(4 * MIB, 96 * MIB)
    require_shared_memory(96 * MIB, 96 * MIB)
    require_shared_memory(None, 96 * MIB)
    assert free_shared_memory("/no/such/folder") is None
    assert (free_shared_memory("/dev/shm") or 1) > 0


def test_an_engine_without_shared_memory_ends_in_one_line(
    policy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before vLLM is imported; and the line is what is left of the actor's traceback."""
    monkeypatch.setattr(vllm_replica, "free_shared_memory", lambda: 4 * MIB)
    path = str(policy_folder)
    settings = ReplicaSettings.from_config(RolloutConfig(), path, "cpu", 512, 0, sleep=False)
    with pytest.raises(SurroundingsError, match="/dev/shm has 4 MiB free") as caught:
        vllm_replica.VLLMReplica(settings)
    line = "".join(traceback.format_exception_only(caught.value)).strip()
    told = reason_of(RayError(f"The actor died\n  File x, line 1\n{line}"))
    assert told == str(caught.value)
    assert reason_of(RayError("first\nlast")) == "first\nlast"


@pytest.mark.parametrize(
    ("device", "tensor_parallel_size", "needed"),
    [("cpu", 1, 240 * MIB), ("cuda", 1, 0), ("cuda", 2, 240 * MIB)],
)
def test_an_engine_of_one_process_needs_no_shared_memory(
    policy_folder: Path, device: str, tensor_parallel_size: int, needed: int
) -> None:
    config = RolloutConfig(tensor_model_parallel_size=tensor_parallel_size)
    policy = str(policy_folder)
    settings = ReplicaSettings.from_config(config, policy, device, 512, 0, sleep=False)
    assert shared_memory_needed(settings) == needed


def test_caches_go_to_a_folder_of_this_users_own(tmp_path: Path) -> None:
    folders = cache_folders(tmp_path)
    root = tmp_path / f"verl-{os.getuid()}"
    assert root.stat().st_mode & 0o077 == 0
    assert folders["VLLM_CACHE_ROOT"] == str(root / "vllm")
    assert len(set(folders.values())) == len(folders)
    with pytest.raises(SurroundingsError, match="neither the home folder nor"):
        cache_folders(tmp_path / "gone")


def test_children_of_a_command_get_surroundings_that_work(tmp_path: Path) -> None:
    """ASCII locale, no home, a TMPDIR that no socket fits under; the user's own choice stays."""
    code = (
        "print(tempfile.gettempdir(), os.environ['TMPDIR'], os.environ['PYTHONUTF8'], "
        "os.environ['VLLM_CACHE_ROOT'], os.environ['MPLCONFIGDIR'], 'caf\\u00e9')"
    )
    long = tmp_path / ("x" * 85)
    long.mkdir()
    no_home = tmp_path / "no_home"
    no_home.touch()  # a file cannot become a folder
    run = driver(
        code,
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        LC_ALL="C",
        HOME=str(no_home),
        TMPDIR=str(long),
        MPLCONFIGDIR="/kept",
    )
    assert run.returncode == 0, run.stdout + run.stderr
    last = run.stdout.splitlines()[-1].split()
    assert last[:3] == ["/tmp", "/tmp", "1"]
    assert last[3].startswith("/tmp/verl-")
    assert last[4:] == ["/kept", "caf?"]
    assert "TMPDIR is too long for the paths of sockets" in " ".join(run.stdout.split())


def test_a_ray_without_a_home_for_its_token_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    provide_ray_token()
    assert "RAY_AUTH_TOKEN" not in os.environ, "Ray keeps its own at home"
    monkeypatch.setenv("HOME", str(tmp_path / "gone"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    provide_ray_token()
    assert "RAY_AUTH_TOKEN" not in os.environ, "the user has decided"
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")  # undone by the fixture
    provide_ray_token()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_folder_that_cannot_be_written_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.setenv("PYTHONUTF8", "1")

    def write_where_none_may(_: list[str]) -> None:
        Path("/sys/of_ours").mkdir()

    with pytest.raises(SystemExit) as end:
        run_as_command(write_where_none_may)
    assert end.value.code == 2
    assert capsys.readouterr().out.splitlines() == [
        "error: cannot write /sys/of_ours: Operation not permitted"
    ]

    def fail_as_arrow_does(_: list[str]) -> None:
        raise PermissionError(errno.EACCES, "Failed to open local file 'data/x.parquet'.")

    with pytest.raises(SystemExit):
        run_as_command(fail_as_arrow_does)
    assert (
        "cannot write a file: Failed to open local file 'data/x.parquet'" in capsys.readouterr().out
    )

    def fault_of_ours(_: list[str]) -> None:
        Path("/no/such/folder/file").touch()

    with pytest.raises(FileNotFoundError):
        run_as_command(fault_of_ours)


@pytest.mark.parametrize(
    "path",
    [
        "/m/lr=1e-6",
        "/m/with a space",
        "/m/[v1], (b) {c}",
        "[bracketed]",
        "/m/a,b",
        "/m/it's",
        "/m/模型/é",
        "/m/back\\slash\\",
        "/m/quote\\'s",
        "a: b",
    ],
)
def test_any_path_can_be_a_model(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By MODEL_PATH as test.sh passes it, and as an override."""
    monkeypatch.setenv("MODEL_PATH", path)
    assert "evaluation.model_path=${oc.env:MODEL_PATH}" in (ROOT / "test.sh").read_text("utf-8")
    _, config = load_task_config(
        ["recipe=quickstart", "evaluation.model_path=${oc.env:MODEL_PATH}"]
    )
    assert config.evaluation.model_path == path
    if not path.startswith("["):  # which is a list there
        overrides = ["recipe=quickstart", f"actor_rollout_ref.model.path={path}"]
        _, config = load_task_config(overrides)
        assert config.actor_rollout_ref.model.path == path


def _opens_text_without_encoding(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    method = getattr(function, "attr", None)
    of_os = getattr(getattr(function, "value", None), "id", None) == "os"
    opens = getattr(function, "id", None) == "open"  # files.write_text always writes UTF-8
    if of_os or not (opens or method in ("open", "read_text", "write_text")):
        return False
    modes = [*node.args[:2], *(k.value for k in node.keywords if k.arg == "mode")]
    binary = any(isinstance(m, ast.Constant) and "b" in str(m.value) for m in modes)
    return not binary and not any(keyword.arg == "encoding" for keyword in node.keywords)


def test_every_text_file_is_utf_8_whatever_the_locale() -> None:
    """Stricter than ruff's PLW1514, which must know that an object is a Path."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ("verl", "router_r1", "data_process")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if _opens_text_without_encoding(node) and isinstance(node, ast.Call)
    ]
    assert found == []
