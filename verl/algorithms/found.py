"""What is chosen by the name of a file: a setting's value is a module of a package, and a file that
is added or deleted is a choice more or less."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from verl.config.validation import ConfigError


def find_by_file_name(
    package: str, folders: Iterable[str], attribute: str, key: str, name: str
) -> Any:
    """``attribute`` of the module ``name`` of a package.

    Args:
        package, folders: its ``__name__`` and ``__path__``.
        key: the setting that ``name`` is the value of.

    Raises:
        ConfigError: if there is no such module, or it has no such attribute; it names those there
            are.
    """
    modules = [module.name for module in pkgutil.iter_modules(folders)]

    def of(module: str) -> Any:
        return getattr(import_module(f"{package}.{module}"), attribute, None)

    found = of(name) if name in modules else None
    if found is None:
        there = ", ".join(sorted(filter(of, modules)))
        raise ConfigError(f"{key}={name!r} is not allowed; choose one of: {there}")
    return found
