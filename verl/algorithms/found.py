"""What is chosen by the name of a file: a setting's value is a module of a package, and a file that
is added or deleted is a choice more or less."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module


def names_of_files(package: str, folders: Iterable[str], attribute: str) -> tuple[str, ...]:
    """The modules of a package (its ``__name__`` and ``__path__``) that have ``attribute``, by the
    alphabet."""
    modules = sorted(module.name for module in pkgutil.iter_modules(folders))
    return tuple(name for name in modules if hasattr(import_module(f"{package}.{name}"), attribute))
