"""Writes a sharded model as a Hugging Face checkpoint with its tokenizer.

Guarantees: the folder is written whole or not at all; rank 0 holds one file's tensors at a time,
other ranks one tensor.
"""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from transformers import AutoTokenizer

from verl.utils.files import written_whole
from verl.workers.fsdp.modelling import TokenModel
from verl.workers.fsdp.weights import parameter_shapes, whole_parameters
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
    model: TokenModel, device: torch.device, tokenizer_source: str, folder: Path
) -> None:
    """Writes the float32 weights. Collective.

    Args:
        model: sharded over all ranks.
        device: on which tensors are gathered.
        tokenizer_source: folder or hub name.
        folder: replaced if it is there.
    """
    writes = dist.get_rank() == 0
    with written_whole(folder) if writes else nullcontext(folder) as temporary:
        if writes:
            temporary.mkdir()
        _write_weights(model, device, temporary)
        if writes:
            model.save_config(temporary)
            _copy_tokenizer(Path(tokenizer_source), temporary)
    dist.barrier()


def _write_weights(model: TokenModel, device: torch.device, folder: Path) -> None:
    shapes = parameter_shapes(model, model.checkpoint_name)
    plan = plan_buckets(shapes, torch.float32, _MAX_FILE_BYTES)
    tensors = whole_parameters(model, device, rename=model.checkpoint_name)
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
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Copies tokenizer files byte for byte; a hub name is loaded and saved instead."""
    if source.is_dir():
        for file in source.iterdir():
            if file.name.startswith(_TOKENIZER_FILES):
                shutil.copy2(file, target / file.name)
        return
    AutoTokenizer.from_pretrained(str(source)).save_pretrained(target)
