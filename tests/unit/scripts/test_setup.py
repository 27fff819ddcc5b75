"""scripts/setup.sh says what is wrong; run on a copy, so that the real .venv is left alone."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run(
    folder: Path, script: str = "scripts/setup.sh", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", script],
        cwd=folder,
        env={
            **os.environ,
            "VERL_LOCK": "cpu",
            "ROUTER_R1_INSTALLER": "pip",
            **environment,
        },
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
    tools.mkdir(exist_ok=True)
    write_command(tools / name, script)
    return f"{tools}:{os.environ['PATH']}"


def write_command(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def put_gpu_on_path(folder: Path) -> str:
    """A machine with a GPU and an old driver, as far as a script can see."""
    return put_on_path(
        folder, "nvidia-smi", 'case "$1" in -L) echo "GPU 0: H100";; *) echo 470.57;; esac'
    )


def put_installed_packages(venv: Path, python: str = "exit 0", pip: str = "exit 0") -> None:
    """An environment whose pip has nothing to do; ``python`` and ``pip`` are shell scripts."""
    (venv / "lib").mkdir(parents=True)
    write_command(venv / "bin" / "python", python)
    write_command(venv / "bin" / "pip", pip)


def test_nothing_to_do_is_quick_and_silent() -> None:
    lock = (Path(sys.prefix) / "installed").read_text().split()[0]
    start = time.monotonic()
    result = run(ROOT, VERL_LOCK=lock)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert time.monotonic() - start < 10


def test_an_unknown_lock_is_named(copy: Path) -> None:
    result = run(copy, VERL_LOCK="tpu")
    assert result.returncode == 1
    assert "VERL_LOCK=tpu is unknown; choose cpu or cuda" in result.stderr


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


def test_cuda_wheels_need_more_room_in_tmpdir(copy: Path) -> None:
    """4.2 GB of them lie there until they are installed."""
    big, small = 100 * 1024 * 1024, 4 * 1024 * 1024
    df = (
        f'[ "$2" = . ] && free={big} || free={small}\n'
        'printf "Filesystem Blocks Used Available\\nx 9 9 %s\\n" $free'
    )
    path = put_on_path(copy, "df", df)
    result = run(copy, PATH=path, PYTHON=sys.executable, VERL_LOCK="cuda", TMPDIR="/tmp")
    assert result.returncode == 1
    assert "/tmp has 4 GiB free, the installation needs 6 GiB" in result.stderr


def test_flash_attention_is_built_into_a_finished_environment_once(copy: Path) -> None:
    note = f'echo "$*" >> {copy}/pip.log'
    put_installed_packages(copy / ".venv", pip=note)
    path = put_gpu_on_path(copy)
    assert run(copy, PATH=path, VERL_LOCK="cuda").returncode == 0
    assert "flash-attn" not in (copy / "pip.log").read_text()
    for _ in range(2):
        run(copy, PATH=path, VERL_LOCK="cuda", ROUTER_R1_FLASH_ATTN="1")
    assert (copy / "pip.log").read_text().count("flash-attn") == 1
    assert run(copy, PATH=path, VERL_LOCK="cuda").stdout == "", "and is kept without asking"


def test_a_driver_that_torch_cannot_use_is_one_line(copy: Path) -> None:
    python = (
        'case "$2" in *device=*) echo "RuntimeError: The NVIDIA driver is too old" >&2; exit 1;;'
        " *torch.version.cuda*) echo 13.0;; esac"
    )
    put_installed_packages(copy / ".venv", python=python)
    result = run(copy, PATH=put_gpu_on_path(copy), VERL_LOCK="cuda")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    for words in ("driver is too old", "470.57", "torch==2.13.0", "CUDA 13.0", "update the driver"):
        assert words in line
    assert not (copy / ".venv" / "installed").exists()


def test_without_a_gpu_the_cuda_packages_are_installed_untried(copy: Path) -> None:
    """A login node prepares for the compute nodes."""
    put_installed_packages(copy / ".venv", python='case "$2" in *cuda*) exit 1;; esac')
    assert run(copy, VERL_LOCK="cuda").returncode == 0
    assert (copy / ".venv" / "installed").exists()


def test_a_missing_header_of_python_is_a_warning(copy: Path) -> None:
    put_installed_packages(copy / ".venv", python='case "$2" in *sysconfig*) echo /none;; esac')
    result = run(copy, VERL_LOCK="cuda")
    assert result.returncode == 0
    assert "warning: /none/Python.h is missing" in result.stdout


HASH = "0" * 64


def lock(copy: Path, pin: str) -> None:
    (copy / "scripts" / "locks" / "cpu.lock").write_text(f"{pin} \\\n    --hash=sha256:{HASH}\n")


def test_a_missing_wheel_is_named_and_leaves_no_stamp(copy: Path) -> None:
    """No index answers; the next run starts over instead of believing itself done."""
    lock(copy, "no-such-package==1.0")
    result = run(copy, PYTHON=sys.executable, PIP_NO_INDEX="1")
    assert result.returncode == 1
    assert "pip cannot install" in result.stderr
    assert "no-such-package" in result.stderr
    assert not (copy / ".venv" / "installed").exists()


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder of wheels with a package of one module; nobody's hash is all zeros."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr(
            "tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
        )
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return folder


def test_a_file_that_is_not_the_locks_is_refused(copy: Path, wheels: Path) -> None:
    lock(copy, "tiny==1.0")
    venv = copy / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = f'exec {sys.executable} -m pip --python {venv}/bin/python "$@"'
    write_command(venv / "bin" / "pip", pip)
    result = run(copy, PYTHON=sys.executable, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    assert result.returncode == 1
    assert "DO NOT MATCH THE HASHES" in result.stderr
    assert not list((copy / ".venv").rglob("tiny.py"))


def put_uv_on_path(folder: Path, script: str = "") -> str:
    """A uv that writes down how it was called; ``script`` may end it with a failure."""
    note = f'echo "$* [$UV_FIND_LINKS]" >> {folder}/uv.log'
    return put_on_path(folder, "uv", f"{note}\n{script}")


def test_uv_installs_by_hash_from_where_pip_is_configured_to_look(copy: Path) -> None:
    path = put_uv_on_path(copy)
    result = run(
        copy, PATH=path, PYTHON=sys.executable, ROUTER_R1_INSTALLER="uv", PIP_FIND_LINKS="/a /b"
    )
    assert result.returncode == 0, result.stderr
    lock_line, project_line = (copy / "uv.log").read_text().splitlines()
    common = "pip install --python .venv/bin/python --no-deps"
    assert lock_line == f"{common} --require-hashes -r scripts/locks/cpu.lock [/a,/b]"
    assert project_line == f"{common} --no-build-isolation -e . [/a,/b]"
    assert "and uv" in result.stdout
    assert (copy / ".venv" / "installed").exists()


def test_torchs_cpu_build_comes_from_pytorchs_index_where_the_configured_has_none(
    copy: Path,
) -> None:
    failing = f'[ "$(wc -l < {copy}/uv.log)" != 1 ]'
    path = put_uv_on_path(copy, failing)
    result = run(copy, PATH=path, PYTHON=sys.executable, ROUTER_R1_INSTALLER="uv")
    assert result.returncode == 0, result.stderr
    calls = (copy / "uv.log").read_text().splitlines()
    assert len(calls) == 4
    assert "-r .venv/torch.lock --default-index https://download.pytorch.org/whl/cpu" in calls[1]
    assert "-r scripts/locks/cpu.lock" in calls[2]


def test_pip_takes_over_where_uv_fails(copy: Path) -> None:
    put_installed_packages(copy / ".venv", pip=f'echo "$*" >> {copy}/pip.log')
    path = put_uv_on_path(copy, "exit 2")
    result = run(copy, PATH=path, PYTHON=sys.executable, ROUTER_R1_INSTALLER="uv")
    assert result.returncode == 0, result.stderr
    assert "uv cannot install them (see .venv/install.log); trying pip" in result.stdout
    assert "--require-hashes -r scripts/locks/cpu.lock" in (copy / "pip.log").read_text()


@pytest.mark.parametrize(
    ("tools", "named"),
    [
        ({"uname": "case $1 in -s) echo Darwin;; *) echo arm64;; esac"}, "runs macOS (arm64)"),
        ({"uname": "case $1 in -s) echo Linux;; *) echo armv7l;; esac"}, "processor is armv7l"),
        ({"getconf": "case $1 in LONG_BIT) echo 32;; *) echo glibc 2.36;; esac"}, "32-bit"),
        ({"getconf": "case $1 in LONG_BIT) echo 64;; *) exit 1;; esac"}, "no glibc (musl"),
        ({"getconf": "case $1 in LONG_BIT) echo 64;; *) echo glibc 2.17;; esac"}, "has glibc 2.17"),
    ],
)
def test_a_platform_without_wheels_is_told_what_works(
    copy: Path, tools: dict[str, str], named: str
) -> None:
    """By set-up, and by the tests' own script; before anything is made."""
    path = ""
    for name, script in tools.items():
        path = put_on_path(copy, name, script)
    for command in ("scripts/setup.sh", "scripts/run_tests.sh"):
        result = run(copy, command, PATH=path)
        assert result.returncode == 1
        assert result.stdout == ""
        first, *rest = result.stderr.splitlines()
        assert named in first
        for words in (
            "docker run",
            "scripts/locks/portable.txt",
            "tests/unit/router_r1/reward/test_reward.py",
        ):
            assert any(words in line for line in rest)
    assert not (copy / ".venv").exists()


def test_the_tests_named_for_other_platforms_exist() -> None:
    names = (ROOT / "scripts" / "locks" / "portable.txt").read_text().splitlines()
    patterns = " ".join(n.removeprefix("# tests:") for n in names if n.startswith("# tests:"))
    assert all(list(ROOT.glob(pattern)) for pattern in patterns.split())


def settings(config_list: str, **environment: str) -> dict[str, str]:
    return runpy.run_path(str(ROOT / "scripts/pip_settings.py"))["uv_settings"](
        config_list, environment
    )


def test_pips_settings_become_uvs() -> None:
    found = settings(
        "global.index-url='https://user:secret@mirror/simple'\n"
        "global.find-links='/far'\n"
        "install.find-links='/near'\n"
        ":env:.extra-index-url='https://a/simple file:///b'\n"
        "global.cert='/etc/ca.pem'\n"
        "global.no-index='true'\n"
        "global.timeout='60'\n"
        "freeze.user='true'\n"
    )
    assert found == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": "https://user:secret@mirror/simple",
        "UV_FIND_LINKS": "/near",
        "UV_INDEX": "https://a/simple file:///b",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_NO_INDEX": "true",
        "UV_HTTP_TIMEOUT": "60",
    }


def test_what_is_set_for_uv_is_kept() -> None:
    found = settings(
        "global.index-url='https://mirror'\nglobal.cert='/pip.pem'",
        UV_INDEX_URL="https://mine",
        SSL_CERT_FILE="/mine.pem",
    )
    assert found == {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def choose(copy: Path, command: str, **environment: str) -> list[str]:
    """What scripts/recipe.sh chooses: the recipe, the lock, the folder of the packages."""
    shutil.copytree(ROOT / "configs", copy / "configs", dirs_exist_ok=True)
    unset = {"RECIPE", "VERL_LOCK", "CUDA_VISIBLE_DEVICES"}
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    script = (
        "set -euo pipefail; source scripts/recipe.sh; "
        f'set -- {command}; choose_recipe training "$@" >/dev/null; choose_packages "$@"; '
        'echo "${RECIPE:-none} $VERL_LOCK $VENV"'
    )
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=copy,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.split()


def test_python_keeps_what_it_has_compiled_whatever_the_shell_says(copy: Path) -> None:
    """Else each process of a run would compile the libraries anew."""
    said = subprocess.run(
        [
            "bash",
            "-c",
            'source scripts/recipe.sh; "$0" -c "import sys; print(sys.flags)"',
            sys.executable,
        ],
        cwd=copy,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "dont_write_bytecode=0" in said.stdout


def test_without_a_gpu_there_is_one_environment(copy: Path) -> None:
    assert choose(copy, "") == ["quickstart", "cpu", ".venv"]
    assert choose(copy, "recipe=paper_qwen") == ["none", "cpu", ".venv"]
    (copy / ".venv").mkdir()
    (copy / ".venv" / "installed").write_text("cuda 1234\n")
    assert choose(copy, "") == ["quickstart", "cpu", ".venv-cpu"], "made for other nodes: kept"


def test_beside_a_gpu_a_run_on_the_cpu_has_packages_of_its_own(copy: Path) -> None:
    path = put_gpu_on_path(copy)
    assert choose(copy, "", PATH=path) == ["paper_qwen", "cuda", ".venv"]
    for recipe in ("quickstart", "quickstart_grpo", "quickstart_tiers"):
        assert choose(copy, "", PATH=path, RECIPE=recipe) == [recipe, "cpu", ".venv-cpu"]
    assert choose(copy, "recipe=quickstart", PATH=path)[1:] == ["cpu", ".venv-cpu"]
    assert choose(copy, "trainer.device=cpu", PATH=path)[1:] == ["cpu", ".venv-cpu"]
    on_gpu = choose(copy, "recipe=quickstart trainer.device=cuda", PATH=path)
    assert on_gpu[1:] == ["cuda", ".venv"]
    hidden = choose(copy, "", PATH=path, CUDA_VISIBLE_DEVICES="")
    assert hidden == ["quickstart", "cpu", ".venv-cpu"]


def test_the_cpu_packages_leave_those_for_the_gpu_alone(copy: Path) -> None:
    put_installed_packages(copy / ".venv-cpu")
    result = run(copy, PATH=put_gpu_on_path(copy), VERL_LOCK="cpu")
    assert result.returncode == 0, result.stderr
    assert "installing the cpu packages into .venv-cpu" in result.stdout
    assert (copy / ".venv-cpu" / "installed").read_text().startswith("cpu ")
    assert not (copy / ".venv").exists()


def test_one_build_of_vllm_is_not_installed_over_the_other(copy: Path) -> None:
    put_installed_packages(copy / ".venv")
    (copy / ".venv" / "installed").write_text("cpu 1234\n")
    (copy / ".venv" / "lib" / "vllm").mkdir()
    path = put_uv_on_path(copy)
    result = run(copy, PATH=path, PYTHON=sys.executable, ROUTER_R1_INSTALLER="uv", VERL_LOCK="cuda")
    assert result.returncode == 0, result.stderr
    assert (copy / ".venv" / "installed").read_text().startswith("cuda ")
    assert not (copy / ".venv" / "lib" / "vllm").exists()
