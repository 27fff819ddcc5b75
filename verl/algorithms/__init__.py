"""RL algorithms, one a file: ``algorithm.adv_estimator`` names the file that it takes.

A file whose module has an ``ALGORITHM`` (:class:`~verl.algorithms.base.Algorithm`) is one; there is
no list to add it to. Policy losses are found likewise, in :mod:`verl.algorithms.policy_losses`; any
algorithm goes with any of them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it brings torch, which reading a configuration mostly does without
    from verl.algorithms.base import Algorithm


def names_of_files(package: str, folders: Iterable[str], attribute: str) -> tuple[str, ...]:
    """The modules of a package (its ``__name__`` and ``__path__``) that have ``attribute``, by the
    alphabet."""
    modules = sorted(module.name for module in pkgutil.iter_modules(folders))
    return tuple(name for name in modules if hasattr(import_module(f"{package}.{name}"), attribute))


def algorithm_names() -> tuple[str, ...]:
    """What ``algorithm.adv_estimator`` may be."""
    return names_of_files(__name__, __path__, "ALGORITHM")


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of the file ``name``, which is one of :func:`algorithm_names`."""
    found: Algorithm = import_module(f"{__name__}.{name}").ALGORITHM
    return found
