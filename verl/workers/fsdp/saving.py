"""Writes a sharded model as a Hugging Face checkpoint with its tokenizer.

Guarantees: the folder is written whole or not at all; rank 0 holds one file's tensors at a time,
other ranks one tensor.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from transformers import AutoTokenizer

from verl.workers.fsdp.weights import (
    Rename,
    parameter_shapes,
    unchanged,
    whole_parameters,
)
from verl.workers.weight_transfer.buckets import plan_buckets

_MAX_FILE_BYTES = 5 * 10**9
_TOKENIZER_FILES = (
    "tokenizer",
    "special_tokens",
    "chat_template",
    "vocab",
    "merges",
    "added_tokens",
)


def save_checkpoint(
    model: torch.nn.Module,
    pretrained: Any,
    device: torch.device,
    tokenizer_source: str,
    folder: Path,
    rename: Rename = unchanged,
) -> None:
    """Writes the float32 weights. Collective.

    Args:
        model: sharded over all ranks.
        pretrained: the transformers model in it, whose config is saved.
        device: on which tensors are gathered.
        tokenizer_source: folder or hub name.
        folder: replaced if it is there.
        rename: parameter name to name in the checkpoint.
    """
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    if dist.get_rank() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    _write_weights(model, device, rename, temporary)
    if dist.get_rank() == 0:
        _write_config(pretrained, temporary)
        _copy_tokenizer(Path(tokenizer_source), temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    dist.barrier()


def _write_weights(
    model: torch.nn.Module, device: torch.device, rename: Rename, folder: Path
) -> None:
    plan = plan_buckets(parameter_shapes(model, rename), torch.float32, _MAX_FILE_BYTES)
    tensors = whole_parameters(model, device, rename=rename)
    file_of: dict[str, str] = {}
    for number, slots in enumerate(plan.buckets, start=1):
        file = (
            "model.safetensors"
            if len(plan.buckets) == 1
            else f"model-{number:05d}-of-{len(plan.buckets):05d}.safetensors"
        )
        kept: dict[str, torch.Tensor] = {}
        for slot in slots:
            name, tensor = next(tensors)
            file_of[slot.name] = file
            if dist.get_rank() == 0:
                kept[name] = tensor.to("cpu", copy=True)
        if dist.get_rank() == 0:
            save_file(kept, folder / file, metadata={"format": "pt"})
    if dist.get_rank() == 0 and len(plan.buckets) > 1:
        total = sum(slot.nbytes for slots in plan.buckets for slot in slots)
        index = {"metadata": {"total_size": total}, "weight_map": file_of}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write_config(pretrained: Any, folder: Path) -> None:
    config = copy.deepcopy(pretrained.config)
    config.architectures = [type(pretrained).__name__.removeprefix("FSDP")]
    config.dtype = torch.float32
    config.save_pretrained(folder)
    if pretrained.can_generate():
        pretrained.generation_config.save_pretrained(folder)


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Copies tokenizer files byte for byte; a hub name is loaded and saved instead."""
    if source.is_dir():
        for file in source.iterdir():
            if file.name.startswith(_TOKENIZER_FILES):
                shutil.copy2(file, target / file.name)
        return
    AutoTokenizer.from_pretrained(str(source)).save_pretrained(target)
