"""Reads pool files."""

from __future__ import annotations

import functools
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from router_r1.pool.config import PoolConfig
from verl.config.validation import ConfigError, to_dataclass

POOL_FOLDER = Path(__file__).resolve().parents[2] / "configs" / "pool"


def load_pool(name_or_path: str | Path) -> PoolConfig:
    """A pool by its name under ``configs/pool`` or by the path of a YAML file; raises
    :class:`ConfigError` if there is no such file, or it does not hold a valid pool."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = POOL_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in POOL_FOLDER.glob("*.yaml")))
        raise ConfigError(f"no pool file {path}; pools in {POOL_FOLDER}: {known}")
    try:
        loaded = OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path} must hold a mapping, with the keys of PoolConfig")
    return to_dataclass(loaded, PoolConfig)


@functools.cache
def paper_pool() -> PoolConfig:
    """The paper's pool."""
    return load_pool("paper")
