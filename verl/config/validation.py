"""From YAML to typed dataclasses: a wrong key or value dies at once, naming what is allowed."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from verl.errors import UserError

T = TypeVar("T")
# Each schema as a config, which a merge copies: to make one takes as long as the merge.
_DEFAULTS: dict[type, DictConfig] = {}


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used; the message names the key and what is allowed."""


def require_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises :class:`ConfigError` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ConfigError(f"{key}={value!r} is not allowed; choose one of: {', '.join(allowed)}")


def require_positive(**values: float | None) -> None:
    """Raises :class:`ConfigError` for the first value that is not > 0 (None is skipped)."""
    for key, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{key} must be > 0, got {value}")


def require_not_negative(**values: float) -> None:
    """Raises :class:`ConfigError` for the first value that is not >= 0."""
    for key, value in values.items():
        if not value >= 0:
            raise ConfigError(f"{key} must be >= 0, got {value}")


def to_dataclass(config: DictConfig, schema: type[T]) -> T:
    """Validates a composed Hydra config against ``schema`` and returns an instance of it.

    Raises:
        ConfigError: for an unknown key (with the keys allowed beside it), a missing mandatory
            value, a value of the wrong type, or a value that a ``__post_init__`` refuses.
    """
    _check_keys(config, schema, prefix="")
    try:
        if schema not in _DEFAULTS:
            _DEFAULTS[schema] = OmegaConf.structured(schema)
        merged = OmegaConf.merge(_DEFAULTS[schema], config)
        return typing.cast(T, OmegaConf.to_object(merged))
    except ConfigError:
        raise
    except ConfigKeyError as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} must be set") from error
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{key}: {reason}" if key else reason) from error


def _check_keys(config: Any, schema: Any, prefix: str) -> None:
    """Walks config and schema together so that the error can list the allowed keys."""
    if not dataclasses.is_dataclass(schema):
        return
    if isinstance(config, ListConfig):
        for i, item in enumerate(config):
            _check_keys(item, schema, prefix=f"{prefix.removesuffix('.')}[{i}].")
    if not isinstance(config, DictConfig):
        return
    hints = typing.get_type_hints(schema)
    allowed = {f.name: hints[f.name] for f in dataclasses.fields(schema)}
    for name in map(str, config):
        key = f"{prefix}{name}"
        if name not in allowed:
            raise ConfigError(
                f"unknown config key {key!r}; allowed here: {', '.join(sorted(allowed))}"
            )
        if not OmegaConf.is_missing(config, name):
            _check_keys(config._get_node(name), _inner_dataclass(allowed[name]), f"{key}.")


def _inner_dataclass(hint: Any) -> Any:
    """The dataclass in ``X``, ``X | None`` or ``list[X]``; anything else passes through."""
    for candidate in typing.get_args(hint):
        if dataclasses.is_dataclass(candidate):
            return candidate
    return hint
