"""Outcomes by a rule of the user's own, in place of EM or F1: ``reward.function``.

Guarantees: whatever the function gives is checked: one outcome in [0, 1] for each trajectory, and
step rewards, if any, one for each turn of the policy.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verl.config.validation import ConfigError
from verl.errors import UserError

if TYPE_CHECKING:
    from router_r1.llm_agent.trajectory import RoutedTrajectory

_NAME = re.compile(r"[\w.]+:\w+")
_KEY = "reward.function"


class OutcomeError(UserError):
    """A function gave something else than outcomes; the message names it and what it gave."""


@dataclass(frozen=True)
class SteppedOutcomes:
    """One outcome in [0, 1] for each trajectory, and ``steps``: for each trajectory a number for
    each of its turns, added to its reward and placed on the turn's last sampled token; an empty
    entry has none.
    """

    outcomes: Sequence[float]
    steps: Sequence[Sequence[float]]


OutcomeFunction = Callable[
    [Sequence["RoutedTrajectory"], Sequence[list[str]]], Sequence[float] | SteppedOutcomes
]
"""Takes a batch's trajectories and the gold answers of each. It keeps no state from batch to batch:
a run that goes on makes it anew."""


def check_name(name: str) -> None:
    """Raises :class:`ConfigError` unless ``name`` reads ``module:name``."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{_KEY}={name!r} is not allowed; write module:name of a class")


def find_outcome_class(name: str, arguments: Mapping[str, Any]) -> type:
    """The class that ``module:name`` means, which takes ``arguments``; it is not built yet.

    Raises:
        ConfigError: if it cannot be imported, is no class, or takes other arguments.
    """
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except Exception as error:  # of a module that is not ours
        raise ConfigError(
            f"{_KEY}={name!r} cannot be imported: {type(error).__name__}: {error}; a module "
            "outside the project is found when its folder is in PYTHONPATH"
        ) from error
    if not isinstance(found, type):
        what = "has no such name" if found is None else f"is {found!r}"
        raise ConfigError(f"{_KEY}={name!r}: the module must have a class of this name, it {what}")
    if not any("__call__" in vars(base) for base in found.__mro__):
        raise ConfigError(
            f"{_KEY}={name!r}: an instance of the class must be callable, see __call__"
        )
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"reward.function_args do not fit {name}{inspect.signature(found)}: {error}"
        ) from error
    return found


def judge(
    function: OutcomeFunction,
    trajectories: Sequence[RoutedTrajectory],
    golden_answers: Sequence[list[str]],
) -> SteppedOutcomes:
    """What ``function`` says of a batch, checked; without steps it is one empty entry each.

    Raises:
        OutcomeError: for another number of outcomes or steps, or one out of range.
    """
    given = function(trajectories, golden_answers)
    stepped = given if isinstance(given, SteppedOutcomes) else SteppedOutcomes(given, ())
    count = len(trajectories)
    outcomes = _numbers(stepped.outcomes, "outcomes")
    if len(outcomes) != count:
        raise OutcomeError(
            f"{_KEY} gave {len(outcomes)} outcomes for {count} trajectories; it must give one each"
        )
    for number in outcomes:
        if not 0.0 <= number <= 1.0:
            raise OutcomeError(f"{_KEY} gave the outcome {number}; it must lie in [0, 1]")
    steps = [tuple(_numbers(of_one, "step rewards")) for of_one in stepped.steps]
    if not steps:
        return SteppedOutcomes(outcomes, [()] * count)
    if len(steps) != count:
        raise OutcomeError(
            f"{_KEY} gave step rewards of {len(steps)} trajectories, and there are {count}"
        )
    for trajectory, of_one in zip(trajectories, steps, strict=True):
        if of_one and len(of_one) != len(trajectory.turns):
            raise OutcomeError(
                f"{_KEY} gave {len(of_one)} step rewards for a trajectory of "
                f"{len(trajectory.turns)} turns; it must give one a turn, or none"
            )
    return SteppedOutcomes(outcomes, steps)


def _numbers(given: Iterable[Any], what: str) -> list[float]:
    try:
        numbers = [float(number) for number in given]
    except (TypeError, ValueError) as error:
        raise OutcomeError(f"{_KEY} must give {what} as numbers: {error}") from error
    for number in numbers:
        if not math.isfinite(number):
            raise OutcomeError(f"{_KEY} gave {number} among its {what}; they must be finite")
    return numbers
