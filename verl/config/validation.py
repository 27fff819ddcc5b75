"""From YAML to typed dataclasses: a wrong key or value dies at once, naming what is allowed.

A dataclass marks the range of a number beside its default, as in
``field(default=64, metadata=POSITIVE)``, and its ``__post_init__`` calls :func:`require_ranges`.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, Final, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from verl.errors import UserError

T = TypeVar("T")
_RANGE: Final = "range"
POSITIVE: Final = {_RANGE: "> 0"}
NOT_NEGATIVE: Final = {_RANGE: ">= 0"}
SHARE: Final = {_RANGE: "in [0, 1]"}
SHARE_ABOVE_0: Final = {_RANGE: "in (0, 1]"}
_HOLDS: dict[str, Callable[[float], bool]] = {
    "> 0": lambda value: value > 0,
    ">= 0": lambda value: value >= 0,
    "in [0, 1]": lambda value: 0 <= value <= 1,
    "in (0, 1]": lambda value: 0 < value <= 1,
}
# Each schema as a config, which a merge copies: to make one takes as long as the merge.
_DEFAULTS: dict[type, DictConfig] = {}


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used; the message names the key and what is allowed."""


def require_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises :class:`ConfigError` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ConfigError(f"{key}={value!r} is not allowed; choose one of: {', '.join(allowed)}")


def require_ranges(config: Any, prefix: str) -> None:
    """Raises :class:`ConfigError` for the first field of a dataclass that is out of its range.

    A field has one by its metadata: such as ``POSITIVE``; None is in all.

    Args:
        prefix: goes before the field's name in the message.
    """
    for field in dataclasses.fields(config):
        value, wanted = getattr(config, field.name), field.metadata.get(_RANGE)
        if wanted is not None and value is not None and not _HOLDS[wanted](value):
            raise ConfigError(f"{prefix}{field.name} must be {wanted}, got {value}")


def changed_fields(config: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their defaults, by name; nested ones likewise."""
    changed = {}
    for field in dataclasses.fields(config):
        factory, value = field.default_factory, getattr(config, field.name)
        default = field.default if factory is dataclasses.MISSING else factory()
        if value != default:
            nested = dataclasses.is_dataclass(value)
            changed[field.name] = changed_fields(value) if nested else value
    return changed


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
