"""From YAML to typed dataclasses: a wrong key or value dies at once, naming what is allowed.

A dataclass marks the range of a number or the choices of a text beside its default, as in
``field(default=64, metadata=POSITIVE)``, and is a :class:`Section` or calls :func:`require_ranges`.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, ClassVar, Final, TypeVar

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from verl.errors import UserError

T = TypeVar("T")
_RANGE: Final = "range"
_CHOICES: Final = "choices"
# Each range in words, and whether a number is in it.
POSITIVE: Final = {_RANGE: ("> 0", lambda number: number > 0)}
NOT_NEGATIVE: Final = {_RANGE: (">= 0", lambda number: number >= 0)}
SHARE: Final = {_RANGE: ("in [0, 1]", lambda number: 0 <= number <= 1)}
SHARE_ABOVE_0: Final = {_RANGE: ("in (0, 1]", lambda number: 0 < number <= 1)}
# Each schema as a config, which a merge copies: to make one takes as long as the merge.
_DEFAULTS: dict[type, DictConfig] = {}


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used; the message names the key and what is allowed."""


def require_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises :class:`ConfigError` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ConfigError(f"{key}={value!r} is not allowed; choose one of: {', '.join(allowed)}")


def one_of(*choices: str) -> dict[str, tuple[str, ...]]:
    """Metadata of a field that is one of so many texts, or a list of them."""
    return {_CHOICES: choices}


def require_ranges(config: Any, prefix: str) -> None:
    """Raises :class:`ConfigError` for the first field of a dataclass that is out of its range;
    ``prefix`` goes before the field's name in the message.

    A field has one by its metadata: such as ``POSITIVE``, or :func:`one_of`. None is in all; a list
    is if each of its items is.
    """
    for field in dataclasses.fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        wanted, holds = field.metadata.get(_RANGE, ("", None))
        choices = field.metadata.get(_CHOICES)
        for item in value if isinstance(value, list) else [value]:
            if item is None:
                continue
            if holds and not holds(item):
                raise ConfigError(f"{key} must be {wanted}, got {item}")
            if choices:
                require_choice(key, item, choices)


class Section:
    """Base of a configuration's dataclasses: refuses a field that is out of its range.

    ``prefix``, an argument of the class statement, goes before its fields' names in messages.
    """

    _prefix: ClassVar[str] = ""

    def __init_subclass__(cls, prefix: str | None = None) -> None:
        if prefix is not None:
            cls._prefix = prefix

    def __post_init__(self) -> None:
        require_ranges(self, self._prefix)


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
