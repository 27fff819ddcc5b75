"""``router-r1``: help at once, a table that is true, completion that knows what may come."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from router_r1.cli.commands import COMMANDS, ModuleCommand, ScriptCommand
from router_r1.cli.completion import SCRIPTS, next_words
from router_r1.cli.help import overview, script_help
from router_r1.cli.repository import recipes
from router_r1.config import RouterConfig
from router_r1.evaluation.baselines.registry import BASELINES
from router_r1.evaluation.compare_options import DESCRIPTIONS
from verl.config.validation import to_dataclass
from verl.trainer.launch import compose_config

ROOT = Path(__file__).resolve().parents[4]
HEAVY = ("torch", "ray", "vllm", "transformers", "hydra")
NAMES = [command.name for command in COMMANDS]
HELP = [
    *(f"router_r1.cli {words} --help".split() for words in ("", "completion", *NAMES)),
    *(f"router_r1.cli {words} --help".split() for words in ("pool check", "data train")),
    ["router_r1.cli", "completion", "next", "ask", "--engine", ""],
    *(
        [module, "--help"]
        for module in (
            "router_r1.inference",
            "router_r1.serve",
            "router_r1.pool",
            "router_r1.evaluation.report",
            "data_process.qa_train_merge",
        )
    ),
]
# Runs a module as `python -m` does, then says on stderr which of the heavy packages it imported.
PROBE = """
import atexit, runpy, sys
sys.argv = sys.argv[1:]
atexit.register(lambda: sys.stderr.write("imported:" + ",".join(
    name for name in {heavy!r} if name in sys.modules)))
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def router_r1(*words: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "router_r1.cli", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert result.stderr.endswith("imported:"), result.stderr


def test_the_overview_names_every_command() -> None:
    assert set(NAMES) >= {
        "train",
        "test",
        "ask",
        "serve",
        "compare",
        "report",
        "pool",
        "data",
        "check",
    }
    lines = overview().splitlines()
    for command in COMMANDS:
        assert any(line.split()[:1] == [command.name] for line in lines)
        assert any(line.endswith(command.summary) for line in lines)


def test_help_of_training_names_recipes_and_keys_that_exist() -> None:
    assert set(recipes()) == {path.stem for path in (ROOT / "configs" / "recipe").glob("*.yaml")}
    for command in COMMANDS:
        if isinstance(command, ScriptCommand):
            text = script_help(command)
            assert all(name in text for name in recipes())
            assert all(f"  {key}=" in text for key, _ in command.overrides)
            assert (ROOT / command.script[0]).is_file()


def test_the_keys_in_the_table_are_keys_of_the_configuration() -> None:
    config = to_dataclass(compose_config("ppo_trainer", ["recipe=quickstart"]), RouterConfig)
    keys = {
        key
        for command in COMMANDS
        if isinstance(command, ScriptCommand)
        for key, _ in command.overrides
    }
    for key in keys - {"recipe", "pool", "api_base"}:  # groups, and what YAML alone knows
        owner = config
        for name in key.split("."):
            assert hasattr(owner, name), f"{key}: no {name}"
            owner = getattr(owner, name)
    assert {"recipe", "pool", "api_base"} < keys
    compose_config("ppo_trainer", ["recipe=quickstart", "pool=paper", "api_base=http://x/v1"])


@pytest.mark.parametrize("command", [c for c in COMMANDS if isinstance(c, ModuleCommand)])
def test_every_command_has_its_function(command: ModuleCommand) -> None:
    module, _, function = command.main.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_an_unknown_command_names_the_nearest() -> None:
    result = router_r1("trian")
    assert result.returncode == 2
    assert result.stdout == "error: router-r1 has no command 'trian'; did you mean 'train'?\n"
    result = router_r1("xyz")
    assert "choose from train, test, ask" in result.stdout


def test_a_wrong_option_is_refused_before_the_imports() -> None:
    result = router_r1("compare", "--rooter", "a=b")
    assert result.returncode == 2
    assert "router-r1 compare: error: unrecognized arguments: --rooter" in result.stderr


def test_a_script_gets_the_arguments_and_works_on_the_callers_folder(tmp_path: Path) -> None:
    """From any folder; bash itself is replaced by a command that says how it was called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    bash = tools / "bash"
    bash.write_text('#!/bin/sh\necho "$@"\necho "$ROUTER_R1_WORKING_FOLDER"\n')
    bash.chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    result = router_r1("check", "recipe=quickstart", "--gpus", "4x80", folder=tmp_path, PATH=path)
    called, folder = result.stdout.splitlines()
    assert called == f"{ROOT}/train.sh --check recipe=quickstart --gpus 4x80"
    assert folder == str(tmp_path)


def test_the_code_of_a_command_is_the_code_of_the_process(tmp_path: Path) -> None:
    assert router_r1("pool", "check", "--no_calls", "embedded", folder=tmp_path).returncode == 0
    assert router_r1("pool", "check", "--no_calls", str(tmp_path / "none.yaml")).returncode == 2


def test_the_scripts_show_their_usage_without_packages() -> None:
    for script in ("train.sh", "test.sh"):
        result = subprocess.run(
            ["bash", script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert f"bash {script}" in result.stdout
        assert "set -euo" not in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tr", ["train"]),
        ("train rec", ["recipe="]),
        ("train recipe=quickstart_g", ["recipe=quickstart_grpo"]),
        ("check --g", ["--gpus"]),
        ("ask --eng", ["--engine"]),
        ("ask --engine ", ["vllm", "hf"]),
        ("ask --question ", []),
        ("pool ch", ["check"]),
        ("pool check emb", ["embedded", "embedded_profiles", "embedded_tiers"]),
        ("data train --model ", ["qwen", "llama"]),
        ("completion z", ["zsh"]),
        ("nonsense ", []),
    ],
)
def test_completion(words: str, expected: list[str]) -> None:
    assert next_words(words.split(" ")) == expected


def test_bash_completes() -> None:
    """The words after '=' are completed too, which bash takes for a word of its own."""
    script = (
        f'{SCRIPTS["bash"]}router-r1() {{ {sys.executable} -m router_r1.cli "$@"; }}\n'
        + "ask() { COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=(); _router_r1 2>/dev/null; "
        + 'echo "${COMPREPLY[@]}"; }\n'
        + "ask 'router-r1 comp'; ask 'router-r1 train recipe=paper_'; ask 'router-r1 serve --po'\n"
    )
    result = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == [
        "compare completion",
        "paper_llama paper_qwen",
        "--port --pool",
    ]


def test_every_baseline_is_described() -> None:
    assert list(DESCRIPTIONS) == list(BASELINES)
