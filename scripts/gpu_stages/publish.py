"""Weights gathered, put into buckets, and read by a second process, without vLLM."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file

from gpu_stages.errors import require
from gpu_stages.one_rank import make_actor
from gpu_stages.random_model import write_random_model
from gpu_stages.timing import peak_bytes
from verl.config.model import ActorConfig, FSDPConfig, ModelConfig
from verl.workers.fsdp.actor import ActorWorker
from verl.workers.weight_transfer.buckets import WeightFormat
from verl.workers.weight_transfer.buffers import attach_buffer, memory_id

_BUCKET_BYTES = 512 * 2**20


def run(device: torch.device, record: Callable[[str, Any], None]) -> None:
    """Needs tensordict, omegaconf, transformers."""
    gpu = device.type == "cuda"
    if gpu:
        device = torch.device("cuda", 0)
    dtype = "bfloat16" if gpu else "float32"
    with tempfile.TemporaryDirectory() as folder:
        path = write_random_model("three_b" if gpu else "tiny", Path(folder), device)
        for offload in (False, True) if gpu else (False,):
            label = "offload_" * offload
            model = ModelConfig(path=str(path), dtype=dtype)
            fsdp = FSDPConfig(param_offload=offload, optimizer_offload=offload)
            actor = make_actor(model, ActorConfig(fsdp_config=fsdp), device)
            weight_format = WeightFormat(dtype, _BUCKET_BYTES)
            _publish(actor, device, weight_format, _checksums_of(path, dtype), record, label)
            del actor


def _publish(
    actor: ActorWorker,
    device: torch.device,
    weight_format: WeightFormat,
    expected: dict[str, int],
    record: Callable[[str, Any], None],
    label: str,
) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    reader = context.Process(target=_read, args=(theirs, device), daemon=True)
    reader.start()
    require(ours.poll(120) and ours.recv() == "ready", "the second process did not start")
    transferred = 0
    wrong: list[str] = []

    def whole_publication() -> None:
        nonlocal transferred, wrong
        opened = actor.open_weight_update({memory_id(device)}, weight_format)
        for _ in range(opened.num_buckets):
            bucket = actor.fill_weight_bucket()
            transferred += sum(slot.nbytes for slot in bucket.slots)
            ours.send(bucket)
            wrong += [name for name, found in ours.recv().items() if found != expected[name]]
        actor.close_weight_update()

    start = time.perf_counter()
    peak = peak_bytes(whole_publication, device)
    seconds = time.perf_counter() - start
    ours.send(None)
    reader.join(timeout=30)
    record(f"{label}publish_bytes", transferred)
    record(f"{label}publish_s", seconds)
    record(f"{label}publish_bytes_per_s", transferred / seconds)
    record(f"{label}publish_peak_bytes", peak)
    require(not wrong, f"{len(wrong)} tensors arrived changed: {', '.join(wrong[:3])}")


def _checksum(tensor: torch.Tensor) -> int:
    return int(tensor.contiguous().view(torch.uint8).sum(dtype=torch.int64))


def _checksums_of(path: Path, dtype: str) -> dict[str, int]:
    """Of the model's file, by name; the file's bfloat16 weights pass through float32 unchanged."""
    tensors: dict[str, torch.Tensor] = {}
    for file in path.glob("*.safetensors"):
        tensors |= load_file(file)
    return {name: _checksum(tensor.to(getattr(torch, dtype))) for name, tensor in tensors.items()}


def _read(connection: Connection, device: torch.device) -> None:
    """The second process: attaches each bucket once and says what it sees."""
    connection.send("ready")
    attached: dict[tuple[Any, ...], torch.Tensor] = {}
    while (bucket := connection.recv()) is not None:
        handle = bucket.sources[memory_id(device)]
        key = tuple(handle.values())
        if key not in attached:
            attached[key] = attach_buffer(handle, device)
        dtype = getattr(torch, bucket.dtype)
        views = {slot.name: slot.view(attached[key], dtype) for slot in bucket.slots}
        connection.send({name: _checksum(view) for name, view in views.items()})
