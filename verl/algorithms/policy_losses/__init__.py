"""Policy losses, one a file: ``actor.policy_loss`` names the file that it takes.

A file whose module has a ``POLICY_LOSS`` (:data:`~verl.algorithms.policy_losses.base.PolicyLoss`)
is one; there is no list to add it to.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from verl.algorithms import names_of_files

if TYPE_CHECKING:  # it brings torch, which reading a configuration mostly does without
    from verl.algorithms.policy_losses.base import PolicyLoss


def policy_loss_names() -> tuple[str, ...]:
    """What ``actor.policy_loss`` may be."""
    return names_of_files(__name__, __path__, "POLICY_LOSS")


def find_policy_loss(name: str) -> PolicyLoss:
    """The loss of the file ``name``, which is one of :func:`policy_loss_names`."""
    found: PolicyLoss = import_module(f"{__name__}.{name}").POLICY_LOSS
    return found
