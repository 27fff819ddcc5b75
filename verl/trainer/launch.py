"""What the entry points of training share: composing the config, and importing its task."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from verl.config.paths import make_paths_absolute
from verl.config.validation import ConfigError, to_dataclass
from verl.task import Task
from verl.utils.command import run_as_command as run_as_command

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "configs"


def compose_config(name: str, overrides: Sequence[str], folder: Path | None = None) -> DictConfig:
    """Composes ``<folder>/<name>.yaml`` with Hydra overrides; None is ``configs``. Raises
    :class:`ConfigError` if one of the files is no YAML."""
    folder = folder or CONFIG_FOLDER
    lenient = [_lenient(override, folder) for override in overrides]
    try:
        with initialize_config_dir(version_base=None, config_dir=str(folder)):
            config: DictConfig = compose(config_name=name, overrides=lenient)
            return config
    except yaml.YAMLError as error:  # it names file and line
        raise ConfigError(f"no YAML file: {' '.join(str(error).split())}") from error


def _lenient(override: str, folder: Path) -> str:
    """``key=value`` and ``+key=value`` as "add or override": the dataclasses know all valid keys,
    the YAML shows only some, and what neither knows is refused by ``to_dataclass``."""
    key, separator, value = override.lstrip("+").partition("=")
    is_group = (folder / key).is_dir()
    if not separator or is_group or override.startswith("~"):
        return override
    try:
        parsed = OverridesParser.create().parse_override(f"key={value}")
        is_one_value = not parsed.is_sweep_override()
    except HydraException:
        is_one_value = False
    return f"++{key}={value if is_one_value else _quote(value)}"


def _quote(value: str) -> str:
    """As a string of Hydra's grammar: a path may hold ``=``, spaces, brackets and commas."""
    # A backslash stands for itself there, unless a quote follows.
    escaped = re.sub(
        r"(\\*)('|$)", lambda m: m.group(1) * 2 + m.group(2).replace("'", "\\'"), value
    )
    return f"'{escaped}'"


def load_task_config(arguments: Sequence[str]) -> tuple[type[Task], Any]:
    """The task of a root config with overrides, and its validated config, in which paths are
    absolute.

    Args:
        arguments: overrides; ``--config-name`` and ``--config-dir`` choose another root than
            ``configs/ppo_trainer.yaml``. One of another folder goes over ``configs/ppo.yaml``.

    Raises:
        ConfigError: for another option; if ``task._target_`` is no task or cannot be imported;
            see also :func:`to_dataclass`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-name", default="ppo_trainer")
    parser.add_argument("--config-dir", type=Path)
    root, overrides = parser.parse_known_args(arguments)
    for override in overrides:
        if override.startswith("-"):
            raise ConfigError(f"unknown option {override}; there are --config-name, --config-dir")
    if root.config_dir is None:
        raw = compose_config(root.config_name, overrides)
    else:
        raw = compose_config("ppo", ())
        OmegaConf.set_struct(raw, False)
        raw.merge_with(compose_config(root.config_name, overrides, root.config_dir.resolve()))
    task_class = _import_task(raw.task._target_)
    config = to_dataclass(raw, task_class.config_class)
    make_paths_absolute(config)
    return task_class, config


def _import_task(target: str) -> type[Task]:
    try:
        task_class: type = get_class(target)
    except Exception as error:
        raise ConfigError(f"task._target_={target!r} cannot be imported: {error}") from error
    if not issubclass(task_class, Task):
        raise ConfigError(f"task._target_={target!r} is not a verl.task.Task")
    return task_class
