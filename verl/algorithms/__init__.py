"""RL algorithms, one a file: ``algorithm.adv_estimator`` names the file that it takes.

A file whose module has an ``ALGORITHM`` (:class:`~verl.algorithms.base.Algorithm`) is one; there is
no list to add it to.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

from verl.config.validation import ConfigError

if TYPE_CHECKING:  # it brings torch, which reading a configuration mostly does without
    from verl.algorithms.base import Algorithm


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of the file ``name``.

    Raises:
        ConfigError: if there is no such file, or it holds none; it names those there are.
    """
    algorithm: Algorithm | None = None
    if name in _modules():
        algorithm = _algorithm_of(name)
    if algorithm is None:
        there = ", ".join(sorted(filter(_algorithm_of, _modules())))
        raise ConfigError(
            f"algorithm.adv_estimator={name!r} is not allowed; choose one of: {there}"
        )
    return algorithm


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__)]


def _algorithm_of(module: str) -> Any:
    return getattr(import_module(f"{__name__}.{module}"), "ALGORITHM", None)
