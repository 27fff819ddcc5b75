"""Checks a command line without running it: whether all that it names is there.

Commands and their arguments, scripts, modules, recipes, pools, configuration keys and values, the
variables that scripts read, and the server's paths. What is none of these ends in
:class:`WrongCommandError`.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from data_process.command import data_parser
from data_process.preparation import DATASETS
from router_r1.cli.commands import COMMANDS, ModuleCommand, ScriptCommand
from router_r1.cli.completion import SCRIPTS as SHELLS
from router_r1.cli.help import module_parser
from router_r1.cli.repository import pools, recipes
from router_r1.config import RouterConfig
from router_r1.serve.config import ServerConfig
from verl.config.validation import ConfigError, to_dataclass
from verl.trainer.launch import compose_config, load_task_config

ROOT = Path(__file__).resolve().parents[1]
DATA_SCRIPTS = {
    "data_process/qa_train_merge.py": "train",
    "data_process/qa_test_merge.py": "validation",
    "data_process/qa_test_gen.py": "test",
}
_SHELL_FILES = [*ROOT.glob("*.sh"), *(ROOT / "scripts").glob("*.sh")]
_OTHER_TOOLS = {"export", "source", "ruff", "mypy", "lint-imports", "pre-commit"}
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)


class WrongCommandError(Exception):
    """A command line names something that is not there."""


def _require(condition: object, text: str) -> None:
    """Raises :class:`WrongCommandError` with ``text`` unless ``condition`` holds."""
    if not condition:
        raise WrongCommandError(text)


def check_line(line: str, made_pools: Mapping[str, str]) -> None:
    """Raises :class:`WrongCommandError` unless all that the line names is there.

    Args:
        line: of a shell.
        made_pools: pools that are not in the repository but made by a reader, and the one of the
            repository that each begins as.
    """
    if completion := re.match(r"source <\((.*?)\)", line):
        line = completion[1]
    command: list[str] = []
    for word in [*shlex.split(line, comments=True), "&&"]:
        if word == "&&":
            _check_command(command)
            command = []
        else:
            key, equals, value = word.rpartition("=")
            is_pool = key in ("", "pool")
            command.append(key + equals + made_pools.get(value, value) if is_pool else word)


def _check_command(words: list[str]) -> None:
    variables: dict[str, str] = {}
    while words and (match := _ASSIGNMENT.fullmatch(words[0])):
        variables[match[1]] = match[2]
        words = words[1:]
    _check_variables(variables)
    recipe = [f"recipe={variables['RECIPE']}"] if "RECIPE" in variables else []
    program, *arguments = words
    program = program.removeprefix(".venv/bin/")
    if program == "router-r1":
        _check_router_r1(arguments, recipe)
    elif program == "bash":
        _check_script(arguments[0], arguments[1:], recipe)
    elif program == "sbatch":
        script = next(i for i, word in enumerate(arguments) if not word.startswith("-"))
        _check_script(arguments[script], arguments[script + 1 :], recipe)
    elif program == "python" and arguments[0] == "-m":
        _check_module(arguments[1], arguments[2:])
    elif program == "python":
        _check_python_file(arguments[0], arguments[1:])
    elif program == "cp":
        _require((ROOT / arguments[0]).is_file(), f"no file {arguments[0]}")
    elif program == "curl":
        _check_url(next(word for word in arguments if word.startswith("http")))
    else:
        _require(program in _OTHER_TOOLS, f"no such command: {program}")


def _check_url(url: str) -> None:
    """Of the server with its defaults."""
    served, place = ServerConfig(), urlsplit(url)
    source = (ROOT / "router_r1/serve/app.py").read_text(encoding="utf-8")
    _require(f'"{place.path}"' in source, f"the server has no {place.path}")
    _require(place.netloc == f"{served.host}:{served.port}", f"nothing serves {place.netloc}")


def _check_variables(variables: dict[str, str]) -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in _SHELL_FILES)
    for name, value in variables.items():
        _require(name in scripts, f"no script reads {name}")
        if name == "DATASETS":
            _require(set(value.split(",")) <= set(DATASETS), f"no such dataset in {value}")


def _check_router_r1(arguments: list[str], recipe: list[str]) -> None:
    name, rest = arguments[0], arguments[1:]
    if name in ("--help", "--version"):
        return
    if name == "completion":
        _require(rest[0] in SHELLS, f"no completion for {rest}")
        return
    command = next((command for command in COMMANDS if command.name == name), None)
    _require(command, f"router-r1 has no command {name!r}")
    if isinstance(command, ScriptCommand):
        _check_overrides(rest, recipe, [option for option, _ in command.options])
    elif isinstance(command, ModuleCommand):
        parsed = _parse(lambda: module_parser(command), rest)
        if pool := getattr(parsed, "pool", None):
            _require(pool in pools(), f"no pool {pool}")


def _check_script(file: str, arguments: list[str], recipe: list[str]) -> None:
    _require((ROOT / file).is_file(), f"no script {file}")
    if file in ("train.sh", "test.sh", "scripts/slurm.sh", "scripts/cost_sweep.sh"):
        options = ["--check", "--gpus 4x80"] if file == "train.sh" else []
        _check_overrides(arguments, recipe, options)
    elif file == "scripts/run_tests.sh":
        _check_pytest(arguments)
    else:
        _require(not arguments, f"{file} takes no arguments")


def _check_overrides(arguments: Sequence[str], recipe: list[str], options: list[str]) -> None:
    """Composes the configuration; ``options`` beside the overrides, one with a value has two
    words."""
    allowed = {option.split()[0]: len(option.split()) > 1 for option in options}
    overrides, words = [], iter(arguments)
    for word in words:
        if word.startswith("--"):
            _require(word in allowed, f"no option {word}")
            if allowed[word]:
                next(words)
            continue
        overrides.append(word)
    if not recipe and not any(word.startswith("recipe=") for word in overrides):
        recipe = ["recipe=quickstart"]
    chosen = next(word for word in [*recipe, *overrides] if word.startswith("recipe="))
    _require(chosen.removeprefix("recipe=") in recipes(), f"no {chosen}")
    pool = next((w.removeprefix("pool=") for w in overrides if w.startswith("pool=")), None)
    _require(pool is None or pool in pools(), f"no pool {pool}")
    _compose(*recipe, *overrides)


@functools.cache
def _compose(*overrides: str) -> None:
    try:
        to_dataclass(compose_config("ppo_trainer", overrides), RouterConfig)
    except ConfigError as error:
        raise WrongCommandError(str(error)) from error


def _check_module(module: str, arguments: list[str]) -> None:
    if module == "pytest":
        _check_pytest(arguments)
        return
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    _require(spec, f"no module {module}")
    assert spec is not None
    file = spec.origin
    if spec.submodule_search_locations:
        file = str(Path(spec.submodule_search_locations[0]) / "__main__.py")
    _require(file and Path(file).is_file(), f"{module} cannot be run")
    commands = {c.main.partition(":")[0]: c for c in COMMANDS if isinstance(c, ModuleCommand)}
    if command := commands.get(module) or commands.get(f"{module}.__main__"):
        _check_router_r1([command.name, *arguments], [])
    elif "--config-dir" in arguments:
        _check_root(arguments)
    else:
        _check_options(Path(str(file)), arguments)


def _check_root(arguments: Sequence[str]) -> None:
    """A run of another task than routing: its root and its overrides."""
    try:
        load_task_config(arguments)
    except ConfigError as error:
        raise WrongCommandError(str(error)) from error


def _check_python_file(file: str, arguments: list[str]) -> None:
    _require((ROOT / file).is_file(), f"no file {file}")
    if file in DATA_SCRIPTS:
        _parse(data_parser, [DATA_SCRIPTS[file], *arguments])
    else:
        _check_options(ROOT / file, arguments)


def _check_options(file: Path, arguments: Sequence[str]) -> None:
    """Of a program whose parser is made within its main: each option stands in its source."""
    source = file.read_text(encoding="utf-8")
    for word in arguments:
        _require(not word.startswith("--") or f'"{word}"' in source, f"{file.name} has no {word}")


def _check_pytest(arguments: Sequence[str]) -> None:
    for word in arguments:
        if word.startswith("tests"):
            _require((ROOT / word.partition("::")[0]).exists(), f"no tests {word}")


def _parse(make: Callable[[], argparse.ArgumentParser], words: Sequence[str]) -> Any:
    try:
        return make().parse_args(list(words))
    except SystemExit as error:
        raise WrongCommandError(f"arguments that are not taken: {' '.join(words)}") from error
