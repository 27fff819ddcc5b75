"""How fast weights go from the trainer's gathered tensors to what the engine's load gets, on CPU.

    .venv/bin/python benchmarks/weight_transfer.py

A model of 500 MB in bfloat16, its tensors gathered already; a second process takes the engine's
part, by the receiver's own code, and passes over every byte it gets. FSDP's gathering and vLLM's
repacking are left out: they do not belong to the transfer. A plain copy of the same tensors is
timed in between, into memory already in use, and into fresh memory, which the kernel has to clear.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from rich.table import Table

from verl.utils.console import console
from verl.workers.weight_transfer.buckets import plan_buckets
from verl.workers.weight_transfer.buffers import attach_buffer
from verl.workers.weight_transfer.sender import BucketSender, BufferPair

CPU = torch.device("cpu")
ROUNDS = 5
BUCKETS_MIB = (16, 64, 512)


@dataclass(frozen=True)
class Transfer:
    """One publication: seconds in all and, of these, of the reader passing over the bytes; bytes of
    shared memory that the kernel has given."""

    seconds: float
    reading: float
    held: int


def model() -> dict[str, torch.Tensor]:
    """Shapes of a Qwen2 model with 250 million parameters."""
    hidden, inner, layers = 1024, 2816, 14
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (75_000, hidden)}
    for layer in range(layers):
        name = f"model.layers.{layer}"
        shapes |= {f"{name}.self_attn.{p}_proj.weight": (hidden, hidden) for p in "qkvo"}
        shapes |= {f"{name}.mlp.{p}_proj.weight": (inner, hidden) for p in ("gate", "up")}
        shapes |= {f"{name}.mlp.down_proj.weight": (hidden, inner)}
        shapes |= {f"{name}.{p}_layernorm.weight": (hidden,) for p in ("input", "post")}
    return {name: torch.randn(shape).bfloat16() for name, shape in shapes.items()}


def read(connection: Connection) -> None:
    """The engine's part: attaches each buffer once, views the tensors, passes over them."""
    from verl.workers.weight_transfer.vllm_receiver import BucketUpdateInfo, tensors_in

    torch.set_num_threads(1)
    attached: dict[tuple[Any, ...], torch.Tensor] = {}
    connection.send("ready")
    while (message := connection.recv()) is not None:
        info = BucketUpdateInfo(**message)
        key = tuple(info.sources["cpu"].values())
        if key not in attached:
            attached[key] = attach_buffer(info.sources["cpu"], CPU)
        tensors = tensors_in(attached[key], info)
        start = time.perf_counter()
        for _, tensor in tensors:
            tensor.view(torch.int16).amax()
        connection.send(time.perf_counter() - start)


def transfer(
    tensors: dict[str, torch.Tensor], mib: int, engine: Connection, buffers: BufferPair
) -> Transfer:
    """Publishes all tensors in buckets of ``mib`` MiB."""
    shapes = [(name, tensor.shape) for name, tensor in tensors.items()]
    plan = plan_buckets(shapes, torch.bfloat16, mib * 2**20)
    gathered: Iterator[tuple[str, torch.Tensor]] = iter(tensors.items())
    start = time.perf_counter()
    sender = BucketSender(plan, gathered, buffers)
    reading = 0.0
    for _ in plan.buckets:
        engine.send(asdict(sender.fill()))
        reading += engine.recv()
    seconds = time.perf_counter() - start
    files = {buffers.get(number, 0).handle["file"] for number in range(min(2, len(plan.buckets)))}
    held = sum(os.fstat(file).st_blocks * 512 for file in files)
    return Transfer(seconds, reading, held)


def copy(tensors: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> float:
    """Seconds of a plain copy of all tensors."""
    start = time.perf_counter()
    for name, tensor in tensors.items():
        targets[name].copy_(tensor)
    return time.perf_counter() - start


def measure() -> dict[str, float]:
    """Times copies and transfers in turn; prints the medians."""
    torch.set_num_threads(1)
    tensors = model()
    size = sum(tensor.nbytes for tensor in tensors.values())
    context = multiprocessing.get_context("spawn")
    engine, theirs = context.Pipe()
    process = context.Process(target=read, args=(theirs,), daemon=True)
    process.start()
    engine.recv()
    used = {name: tensor.clone() for name, tensor in tensors.items()}
    warm, fresh = [], []
    transfers: dict[int, list[Transfer]] = {mib: [] for mib in BUCKETS_MIB}
    pairs = {mib: BufferPair(CPU) for mib in BUCKETS_MIB}
    for _ in range(ROUNDS):
        warm.append(copy(tensors, used))
        fresh.append(copy(tensors, {n: torch.empty_like(t) for n, t in tensors.items()}))
        for mib in BUCKETS_MIB:
            transfers[mib].append(transfer(tensors, mib, engine, pairs[mib]))
    engine.send(None)
    process.join()

    reference = statistics.median(warm)
    table = Table(title=f"{size / 1e6:.0f} MB in bfloat16, one thread", title_justify="left")
    for column in ("", "GB/s", "of a memcpy", "shared memory, MB", "first time, s"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("memcpy", f"{size / reference / 1e9:.2f}", "1.00", "", "")
    seconds = statistics.median(fresh)
    table.add_row(
        "memcpy into fresh memory",
        f"{size / seconds / 1e9:.2f}",
        f"{reference / seconds:.2f}",
        "",
        "",
    )
    shares = {}
    for mib, (first, *runs) in transfers.items():
        seconds = statistics.median(run.seconds - run.reading for run in runs)
        shares[f"transfer in buckets of {mib} MiB, of a memcpy"] = reference / seconds
        table.add_row(
            f"transfer, buckets of {mib} MiB",
            f"{size / seconds / 1e9:.2f}",
            f"{reference / seconds:.2f}",
            f"{first.held / 1e6:.0f}",
            f"{first.seconds - first.reading:.2f}",
        )
    console.print(table)
    return shares


if __name__ == "__main__":
    measure()
