"""Policy losses, one a file: ``actor.policy_loss`` names the file that it takes.

A file whose module has a ``POLICY_LOSS`` (:data:`~verl.algorithms.policy_losses.base.PolicyLoss`)
is one; there is no list to add it to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl.algorithms.found import find_by_file_name

if TYPE_CHECKING:  # it brings torch, which reading a configuration mostly does without
    from verl.algorithms.policy_losses.base import PolicyLoss


def find_policy_loss(name: str) -> PolicyLoss:
    """The loss of the file ``name``.

    Raises:
        ConfigError: if there is no such file, or it holds none; it names those there are.
    """
    found: PolicyLoss = find_by_file_name(
        __name__, __path__, "POLICY_LOSS", "actor.policy_loss", name
    )
    return found
