"""How the arguments of a worker method are spread over the ranks and its results are joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from verl.protocol import DataProto, pad_dataproto_to_divisor, unpad_dataproto

F = TypeVar("F", bound=Callable[..., Any])
_ATTRIBUTE = "__verl_dispatch__"


class Dispatch(Enum):
    """Dispatch modes.

    ONE_TO_ALL: every rank gets the same arguments; a list of all results, by rank.
    DP_COMPUTE: every DataProto argument is cut into one equal chunk per rank, others go to all;
        DataProto results are concatenated in rank order.
    """

    ONE_TO_ALL = "one_to_all"
    DP_COMPUTE = "dp_compute"


@dataclass(frozen=True)
class MethodSpec:
    """What :func:`register` noted on a method; ``pad`` allows lengths that do not divide."""

    mode: Dispatch
    pad: bool = False


def register(mode: Dispatch, pad: bool = False) -> Callable[[F], F]:
    """Makes a worker method callable on the worker group.

    With ``pad`` DP_COMPUTE repeats samples to a multiple of the ranks and drops them from the
    result: right for pure functions of each sample, wrong for updates.
    """

    def decorate(method: F) -> F:
        setattr(method, _ATTRIBUTE, MethodSpec(mode, pad))
        return method

    return decorate


def method_specs(cls: type) -> dict[str, MethodSpec]:
    """The registered methods of a class, inherited ones included."""
    names = (name for name in dir(cls) if hasattr(getattr(cls, name, None), _ATTRIBUTE))
    return {name: getattr(getattr(cls, name), _ATTRIBUTE) for name in names}


def spread(
    spec: MethodSpec, world_size: int, args: tuple[Any, ...]
) -> tuple[list[tuple[Any, ...]], int]:
    """Arguments for each rank, and how many samples of padding they hold."""
    if spec.mode is Dispatch.ONE_TO_ALL:
        return [args] * world_size, 0
    pad_size = 0
    spread_args: list[list[Any]] = []
    for value in args:
        if isinstance(value, DataProto):
            if spec.pad:
                value, pad_size = pad_dataproto_to_divisor(value, world_size)
            spread_args.append(list(value.chunk(world_size)))
        else:
            spread_args.append([value] * world_size)
    return [tuple(a[rank] for a in spread_args) for rank in range(world_size)], pad_size


def gather(spec: MethodSpec, results: list[Any], pad_size: int) -> Any:
    """Joins the ranks' results as the mode says."""
    if spec.mode is Dispatch.DP_COMPUTE and isinstance(results[0], DataProto):
        if len(results[0]) == 0:  # only meta_info: the same on every rank
            return results[0]
        return unpad_dataproto(DataProto.concat(results), pad_size)
    return results
