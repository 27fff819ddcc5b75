"""Low-rank adapters on the linear layers of a frozen model, by peft.

Guarantees: an adapted layer computes ``W x + scale * B A x`` with ``scale = alpha / rank``; W is
frozen and B starts at 0, so that training starts at the base model, and without its adapters the
model is the base model at any time. A is drawn from a stream of its own and is the same in every
run. What would be merged wrongly is refused by name.

Source: Hu et al. 2021, LoRA (arXiv 2106.09685), equation 3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from verl.config.model import ALL_LINEAR, LoraConfig
from verl.config.validation import ConfigError

if TYPE_CHECKING:  # peft takes seconds to import, and most models have no adapters
    import peft

# In the folder of a Hugging Face checkpoint, which holds the merged weights.
ADAPTER = "adapter"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_NAME = "default"  # peft's, of a model's first adapter
_SEED = 0


@dataclass(frozen=True)
class Adapter:
    """What makes a layer's weight W to ``W + scale * up @ down``."""

    down: torch.Tensor  # A, (rank, inputs)
    up: torch.Tensor  # B, (outputs, rank); sharded as the weight is, by rows
    scale: float  # alpha / rank

    def merged(self, weight: torch.Tensor) -> torch.Tensor:
        """A new tensor, sharded as ``weight`` (outputs, inputs); collective if that is sharded.

        Each rank merges its own rows: only A, which is small, is gathered.
        """
        up, down = self.up.detach().to(weight), self.down.detach().to(weight)
        if not isinstance(weight, DTensor):
            return torch.addmm(weight, up, down, alpha=self.scale)
        assert isinstance(up, DTensor)
        assert isinstance(down, DTensor)
        rows = torch.addmm(weight.to_local(), up.to_local(), down.full_tensor(), alpha=self.scale)
        mesh, placements = weight.device_mesh, weight.placements
        return DTensor.from_local(
            rows, mesh, placements, shape=weight.shape, stride=weight.stride()
        )


def add_adapters(
    pretrained: torch.nn.Module, layers: Iterable[torch.nn.Module], lora: LoraConfig
) -> peft.LoraConfig:
    """Puts adapters beside linear layers in the decoder ``layers`` of a Hugging Face model, in
    place, and freezes all else. Returns what peft calls the adapters' config; a ConfigError if
    ``lora.target_modules`` names what is no linear layer of these."""
    import peft

    linear = {
        name
        for layer in layers
        for name, module in layer.named_modules()
        if type(module) is torch.nn.Linear
    }
    kinds = {name.rpartition(".")[2] for name in linear}
    targets = kinds if lora.target_modules == [ALL_LINEAR] else set(lora.target_modules)
    unknown = [
        target
        for target in sorted(targets)
        if not any(f".{name}".endswith(f".{target}") for name in linear)
    ]
    if unknown:
        raise ConfigError(
            f"model.lora.target_modules names {', '.join(unknown)}, which is no linear "
            f"layer in the decoder layers of {type(pretrained).__name__}; allowed are "
            f"[{ALL_LINEAR}] or a list of: {', '.join(sorted(kinds))}"
        )
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=sorted(targets), lora_dropout=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(_SEED)
        peft.inject_adapter_in_model(config, pretrained, _NAME)
    config.target_modules = sorted(targets)  # peft's is a set, in no order
    return config


def without_adapters(model: torch.nn.Module) -> AbstractContextManager[None]:
    """Within it ``model`` computes what its base computes; a ValueError if it has no adapters."""
    from peft.helpers import rescale_adapter_scale

    # peft's own switch also turns requires_grad, which FSDP has taken note of.
    return rescale_adapter_scale(model, 0.0)


def adapters_of(model: torch.nn.Module) -> dict[str, Adapter]:
    """All adapters, by the names of the parameters that they change; empty without any."""
    return {
        f"{name}.base_layer.weight": Adapter(
            module.lora_A[_NAME].weight, module.lora_B[_NAME].weight, module.scaling[_NAME]
        )
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def is_adapter(name: str) -> bool:
    """Whether the parameter of that name is part of an adapter."""
    return ".lora_A." in name or ".lora_B." in name


def name_without_peft(name: str) -> str:
    """A parameter's name as the base model has it, or an adapter's as peft's files have it."""
    if is_adapter(name):
        return name.replace(f".{_NAME}.", ".")
    return name.replace(".base_layer.", ".")


def save_adapter_config(
    config: peft.LoraConfig, base: str, task: str, trained_modules: list[str], folder: Path
) -> None:
    """Writes ``adapter_config.json`` into ``folder``, which is made.

    Args:
        base: folder or hub name of the base model.
        task: peft's name of what the whole model is for.
        trained_modules: that are trained beside the adapters, and saved with them.
    """
    saved: Any = copy.copy(config)
    saved.base_model_name_or_path = base
    saved.task_type = task
    saved.modules_to_save = trained_modules or None
    saved.inference_mode = True  # whoever loads it has them frozen at first
    saved.save_pretrained(str(folder))


def save_adapter_weights(tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Writes trained tensors, by their names in a checkpoint, as peft's file in ``folder``."""
    named = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    save_file(named, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
