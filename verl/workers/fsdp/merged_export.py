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


class MergedModel:
    """A base model and what was trained on it.

    Args:
        adapter: a folder with ``adapter_config.json``.
        trained: all tensors that were trained, by their names in a checkpoint: the adapters' and,
            of a critic, its head's.

    Raises:
        BaseModelError: if the base model cannot be read.
    """

    def __init__(self, adapter: Path, trained: Mapping[str, torch.Tensor]) -> None:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        path, is_policy = config["base_model_name_or_path"], config["task_type"] == "CAUSAL_LM"
        family: Any = AutoModelForCausalLM if is_policy else AutoModel
        try:
            self._base = family.from_pretrained(path, dtype="auto")
        except (OSError, ValueError) as error:
            raise BaseModelError(
                f"the adapters in {adapter} are of the base model {path}, which cannot be read "
                f"({str(error).splitlines()[0]}); put it back there, or name its new place as "
                "base_model_name_or_path in adapter_config.json"
            ) from error
        self._prefix = "" if is_policy else f"{self._base.base_model_prefix}."
        self._scale = config["lora_alpha"] / config["r"]
        self._trained = trained

    def shapes(self) -> list[tuple[str, torch.Size]]:
        """Names and shapes, in the order of :meth:`tensors`."""
        return [(name, tensor.shape) for name, tensor in self._unmerged()]

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Names in a checkpoint and merged float32 tensors, one at a time."""
        for name, tensor in self._unmerged():
            layer = name.removesuffix(".weight")
            down = self._trained.get(f"{layer}.lora_A.weight")
            value = tensor.detach().float()
            if down is not None:
                up = self._trained[f"{layer}.lora_B.weight"]
                value = Adapter(down, up, self._scale).merged(value)
            yield name, value

    def _unmerged(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, parameter in self._base.named_parameters():
            yield self._prefix + name, parameter
        for name, tensor in self._trained.items():
            if ".lora_" not in name:
                yield name, tensor
