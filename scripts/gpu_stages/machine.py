"""Which card, driver and versions; how fast it copies and multiplies."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from typing import Any

import torch

from gpu_stages.timing import seconds_of

_PACKAGES = ("torch", "transformers", "triton", "vllm", "ray", "flash-attn", "numpy")


def run(device: torch.device, record: Callable[[str, Any], None]) -> None:
    """Needs torch alone."""
    gpu = device.type == "cuda"
    if gpu:
        properties = torch.cuda.get_device_properties(device)
        record("memory_bytes", properties.total_memory)
        record("multiprocessors", properties.multi_processor_count)
    record("python", platform.python_version())
    record("cuda", torch.version.cuda)
    record("versions", {name: _version(name) for name in _PACKAGES})
    size = 2**30 if gpu else 2**24
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    # A copy reads and writes every byte.
    record("copy_bytes_per_s", 2 * size / seconds_of(lambda: target.copy_(source), device, 10))
    edge = 8192 if gpu else 512
    left, right = (torch.randn(edge, edge, device=device, dtype=torch.bfloat16) for _ in range(2))
    record("bf16_flops_per_s", 2 * edge**3 / seconds_of(lambda: left @ right, device, 10))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
