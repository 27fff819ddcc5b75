"""Writes a model as a Hugging Face checkpoint with its tokenizer: a sharded one, or one of which
a checkpoint holds the training state.

Guarantees: the folder is written whole or not at all; who writes holds one file's tensors at a
time, other ranks one tensor. Of a model with adapters it holds the merged weights and, in a folder
``adapter`` within, the adapters alone in peft's form.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from verl.errors import UserError
from verl.utils.files import written_whole
from verl.workers.fsdp.lora import ADAPTER, Adapter, save_adapter_config, save_adapter_weights
from verl.workers.fsdp.modelling import TokenModel
from verl.workers.fsdp.training_state import PARAMETERS
from verl.workers.fsdp.weights import parameter_shapes, whole_parameters, whole_trained_parameters
from verl.workers.weight_transfer.buckets import NamedShapes, NamedTensors, plan_buckets

# In a training state's folder: all of its Hugging Face checkpoint but the weights.
FORM = "form"
_MAX_FILE_BYTES = 5 * 10**9
_TOKENIZER_FILES = (
    "tokenizer",
    "special_tokens",
    "chat_template",
    "vocab",
    "merges",
    "added_tokens",
)


class BaseModelError(UserError):
    """The base model of saved adapters cannot be read."""


def save_checkpoint(model: TokenModel, device: torch.device, source: str, folder: Path) -> None:
    """Writes the float32 weights. Collective.

    Args:
        device: on which tensors are gathered.
        source: folder or hub name of the model that training began with; the tokenizer is its.
        folder: replaced if it is there.
    """
    writes = dist.get_rank() == 0
    with written_whole(folder) if writes else nullcontext(folder) as temporary:
        if writes:
            temporary.mkdir()
            save_form(model, source, temporary)
        tensors = whole_parameters(model, device)
        _write_weights(parameter_shapes(model), tensors, temporary, writes)
        if model.adapters is not None:
            trained = dict(whole_trained_parameters(model, device))
            if writes:
                save_adapter_weights(trained, temporary / ADAPTER)
    dist.barrier()


def save_form(model: TokenModel, source: str, folder: Path) -> None:
    """Writes all of a Hugging Face checkpoint but the weights into an existing folder."""
    model.save_config(folder)
    _copy_tokenizer(Path(source), folder)
    if model.adapters is not None:
        save_adapter_config(
            model.adapters, source, model.task, list(model.trained_heads), folder / ADAPTER
        )


def export_state(state: Path, target: Path) -> None:
    """Writes the parameters of a training state, adapters merged with their base model, as a
    Hugging Face checkpoint; no process group.

    Args:
        state: what :class:`~verl.workers.fsdp.training_state.StateWriter` wrote, and within it
            what :func:`save_form` wrote for the model.
        target: replaced if it is there.

    Raises:
        BaseModelError: if the base model of adapters cannot be read.
    """
    saved = dcp.FileSystemReader(state).read_metadata().state_dict_metadata
    shapes: NamedShapes = [
        (name.removeprefix(PARAMETERS), entry.size)
        for name, entry in saved.items()
        if name.startswith(PARAMETERS) and isinstance(entry, dcp.metadata.TensorStorageMetadata)
    ]
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as it should be
    with written_whole(target) as temporary:
        shutil.copytree(state / FORM, temporary)
        tensors = _saved_tensors(state, shapes)
        adapter = temporary / ADAPTER
        if adapter.is_dir():
            trained = dict(tensors)
            save_adapter_weights(trained, adapter)
            shapes, tensors = _merge_into_base(adapter, trained)
        _write_weights(shapes, tensors, temporary, keeps=True)


def _merge_into_base(
    adapter: Path, trained: Mapping[str, torch.Tensor]
) -> tuple[NamedShapes, NamedTensors]:
    """The names and shapes of a base model with what was trained on it; and, in the same order, its
    names in a checkpoint and merged float32 tensors, one at a time.

    The base is read from where ``adapter_config.json`` in the folder says, in the dtype it has
    there; no stream of random numbers is drawn from. ``trained`` holds, by their names in a
    checkpoint, the adapters' tensors and, of a critic, its head's.
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

    def merged() -> NamedTensors:
        for name, tensor in tensors.items():
            layer = name.removesuffix(".weight")
            value = tensor.float()
            if (down := trained.get(f"{layer}.lora_A.weight")) is not None:
                up = trained[f"{layer}.lora_B.weight"]
                value = Adapter(down, up, config["lora_alpha"] / config["r"]).merged(value)
            yield name, value

    return [(name, tensor.shape) for name, tensor in tensors.items()], merged()


def _saved_tensors(state: Path, shapes: NamedShapes) -> NamedTensors:
    for name, shape in shapes:
        found = {PARAMETERS + name: torch.empty(shape)}
        dcp.load(found, storage_reader=dcp.FileSystemReader(state), no_dist=True)
        yield name, found[PARAMETERS + name]


def _write_weights(shapes: NamedShapes, tensors: NamedTensors, folder: Path, keeps: bool) -> None:
    """Draws all ``tensors``, in the order of ``shapes``; who ``keeps`` them writes them."""
    buckets = plan_buckets(shapes, torch.float32, _MAX_FILE_BYTES).buckets
    several = len(buckets) > 1
    file_of: dict[str, str] = {}
    for number, slots in enumerate(buckets, start=1):
        part = f"-{number:05d}-of-{len(buckets):05d}" if several else ""
        file = f"model{part}.safetensors"
        kept: dict[str, torch.Tensor] = {}
        for name, tensor in islice(tensors, len(slots)):
            file_of[name] = file
            if keeps:
                kept[name] = tensor.to("cpu", copy=True)
        if keeps:
            save_file(kept, folder / file, metadata={"format": "pt"})
    if keeps and several:
        total = sum(slot.nbytes for slots in buckets for slot in slots)
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
