"""A Hugging Face checkpoint of a training state that holds adapters and not their base model.

Guarantees: the base is read from where ``adapter_config.json`` says, in the dtype it has there, and
merged one tensor at a time in float32; no stream of random numbers is drawn from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM

from verl.errors import UserError
from verl.workers.fsdp.lora import Adapter


class BaseModelError(UserError):
    """The base model of saved adapters cannot be read."""


def merge_into_base(
    adapter: Path, trained: Mapping[str, torch.Tensor]
) -> tuple[list[tuple[str, torch.Size]], Iterator[tuple[str, torch.Tensor]]]:
    """The names and shapes of a base model with what was trained on it; and, in the same order, its
    names in a checkpoint and merged float32 tensors, one at a time.

    Args:
        adapter: a folder with ``adapter_config.json``.
        trained: all tensors that were trained, by their names in a checkpoint: the adapters' and,
            of a critic, its head's.

    Raises:
        BaseModelError: if the base model cannot be read.
    """
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    path, is_policy = config["base_model_name_or_path"], config["task_type"] == "CAUSAL_LM"
    family: Any = AutoModelForCausalLM if is_policy else AutoModel
    try:
        base = family.from_pretrained(path, dtype="auto")
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"the adapters in {adapter} are of the base model {path}, which cannot be read "
            f"({str(error).splitlines()[0]}); put it back there, or name its new place as "
            "base_model_name_or_path in adapter_config.json"
        ) from error
    prefix = "" if is_policy else f"{base.base_model_prefix}."
    tensors = {prefix + name: parameter.detach() for name, parameter in base.named_parameters()}
    tensors |= {name: tensor for name, tensor in trained.items() if ".lora_" not in name}

    def merged() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in tensors.items():
            layer = name.removesuffix(".weight")
            value = tensor.float()
            if (down := trained.get(f"{layer}.lora_A.weight")) is not None:
                up = trained[f"{layer}.lora_B.weight"]
                value = Adapter(down, up, config["lora_alpha"] / config["r"]).merged(value)
            yield name, value

    return [(name, tensor.shape) for name, tensor in tensors.items()], merged()
