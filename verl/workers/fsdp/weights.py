"""The weights of a sharded model: whole tensors out of it, and a checkpoint into it.

Guarantees: names out are those of the Hugging Face checkpoint; adapters are merged on their way
out, and the model stays as it is; tied parameters come once, under the name the model lists first,
and stay tied; a rank other than 0 never holds more than its shards and one whole tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from verl.workers.fsdp.lora import adapters_of, is_adapter
from verl.workers.fsdp.modelling import TokenModel
from verl.workers.weight_transfer.buckets import NamedShapes, NamedTensors


def parameter_shapes(model: TokenModel) -> NamedShapes:
    """Names and whole shapes, in the order of :func:`whole_parameters`."""
    return [
        (model.checkpoint_name(name), parameter.shape)
        for name, parameter in model.named_parameters()
        if not is_adapter(name)
    ]


def whole_parameters(
    model: TokenModel, device: torch.device, dtype: torch.dtype = torch.float32
) -> NamedTensors:
    """Names and whole tensors on ``device``, one at a time; drawing one is a collective.

    Shards are merged with their adapters in float32, cast before they are gathered, and gathered on
    ``device``, also where they rest on the host.
    """
    adapters = adapters_of(model)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        value: torch.Tensor = parameter.detach().to(device=device)
        if name in adapters:
            value = adapters[name].merged(value)
        yield model.checkpoint_name(name), whole_tensor(value.to(dtype=dtype))


def whole_trained_parameters(model: TokenModel, device: torch.device) -> NamedTensors:
    """As :func:`whole_parameters`, of what gets gradients, adapters on their own."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield model.checkpoint_name(name), whole_tensor(parameter.detach().to(device=device))


def whole_tensor(tensor: Any) -> torch.Tensor:
    """Gathers a sharded tensor; then it is a collective."""
    gathered: torch.Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return gathered


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules built inside get parameters without memory; buffers are computed as usual, so those
    that no checkpoint holds (rotary frequencies) are right on every rank."""
    register = torch.nn.Module.register_parameter

    def register_on_meta(
        module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None
    ) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = torch.nn.Parameter(parameter.to("meta"), parameter.requires_grad)
        register(module, name, parameter)

    torch.nn.Module.register_parameter = register_on_meta  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]


def allocate_shards(model: torch.nn.Module, device: torch.device) -> None:
    """Gives the sharded parameters of a model built by :func:`parameters_on_meta` memory on
    ``device``, not yet filled. Buffers stay as they are."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    # What Module.to_empty does, but for the buffers: those have their values and their device.
    model._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t)
    for first, *others in names.values():
        for other in others:  # torch makes a parameter of its own for each name
            owner, _, leaf = other.rpartition(".")
            setattr(model.get_submodule(owner), leaf, model.get_parameter(first))


def load_from_rank_zero(
    model: torch.nn.Module, source: torch.nn.Module | None, device: torch.device
) -> None:
    """Copies the weights of a whole model into its twin, sharded by rows as FSDP2 does, tensor by
    tensor. Collective.

    Args:
        source: in float32 on the host; only rank 0 has one.
        device: over which shards are sent.
    """
    sent = {} if source is None else dict(source.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            assert isinstance(parameter, DTensor)
            shard = _receive_shard(parameter.shape, sent.get(name), device)
            local = parameter.to_local()
            local.copy_(shard[: local.shape[0]])


def _receive_shard(
    shape: torch.Size, whole: torch.Tensor | None, device: torch.device
) -> torch.Tensor:
    """This rank's rows of rank 0's tensor, with filling up to equal sizes at the end."""
    ranks = dist.get_world_size()
    rows = -(-shape[0] // ranks)
    shard = torch.empty((rows, *shape[1:]), device=device)
    parts = None
    if dist.get_rank() == 0:
        assert whole is not None
        parts = [torch.zeros_like(shard) for _ in range(ranks)]
        for part, values in zip(parts, whole.detach().split(rows), strict=False):
            part[: len(values)].copy_(values)
    dist.scatter(shard, parts)
    return shard
