"""One FSDP2 rank with random weights: scoring and update, offloaded or not."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpu_stages.errors import require
from gpu_stages.one_rank import make_actor
from gpu_stages.random_model import random_batch, vocabulary_of, write_random_model
from gpu_stages.timing import peak_bytes, seconds_of
from verl.config.model import ActorConfig, FSDPConfig, ModelConfig
from verl.workers.fsdp.actor import ActorWorker

# Dense bf16 products of an H100 or H200 (SXM), by NVIDIA's data sheet.
_PEAK_FLOPS = 989e12
# What prime-rl published for Qwen3-0.6B on one H100, by tokens of a pass.
_PUBLISHED_MFU = {"16k": 0.111, "64k": 0.268}


def run(device: torch.device, record: Callable[[str, Any], None], shape: str) -> None:
    """Needs tensordict, omegaconf, transformers."""
    gpu = device.type == "cuda"
    shape = shape if gpu else "tiny"
    budgets = (4096, 16_384) if gpu else (256, 512)
    record("published_mfu", _PUBLISHED_MFU)
    with tempfile.TemporaryDirectory() as folder:
        path = write_random_model(shape, Path(folder), device)
        for offload in (False, True) if gpu else (False,):
            actor = _actor(path, device, offload)
            record("parameters", _parameters(path))
            for tokens in budgets:
                _measure(
                    actor, shape, tokens, device, record, f"{'offload_' * offload}{tokens}", path
                )
            if gpu:
                _memory_given_back(actor, record, "offload_" * offload)
            del actor
            gc.collect()


def _actor(path: Path, device: torch.device, offload: bool) -> ActorWorker:
    model = ModelConfig(
        path=str(path),
        dtype="bfloat16" if device.type == "cuda" else "float32",
        use_remove_padding=True,
        enable_gradient_checkpointing=True,
    )
    config = ActorConfig(
        entropy_coeff=0.001,
        use_kl_loss=False,
        ppo_max_token_len_per_gpu=16_384,
        fsdp_config=FSDPConfig(param_offload=offload, optimizer_offload=offload),
    )
    return make_actor(model, config, device)


def _measure(
    actor: ActorWorker,
    shape: str,
    tokens: int,
    device: torch.device,
    record: Callable[[str, Any], None],
    label: str,
    path: Path,
) -> None:
    """Sequences of 2048 tokens (half of the least budget on CPU), ``tokens`` in one pass."""
    length = min(2048, tokens)
    batch = random_batch(vocabulary_of(shape), max(1, tokens // length), length)
    for name, work in (
        ("score", lambda: actor.compute_log_probs(batch)),
        ("update", lambda: actor.update_actor(batch)),
    ):
        seconds = seconds_of(work, device)
        record(f"{name}_{label}_s", seconds)
        record(f"{name}_{label}_tokens_per_s", tokens / seconds)
        record(f"{name}_{label}_bytes", peak_bytes(work, device))
        if name == "update" and device.type == "cuda":
            flops = _flops_per_token(path, length) * tokens / seconds
            record(f"update_{label}_mfu", flops / _PEAK_FLOPS)


def _memory_given_back(actor: ActorWorker, record: Callable[[str, Any], None], label: str) -> None:
    """What the driver sees held before and after, for the engine that wakes next."""
    before = torch.cuda.memory_reserved()
    actor.free_unused_memory()
    after = torch.cuda.memory_reserved()
    record(f"{label}reserved_before_bytes", before)
    record(f"{label}reserved_after_bytes", after)
    allocated = torch.cuda.memory_allocated()
    require(
        after < allocated * 1.1 + 2**30,
        f"{after / 2**30:.1f} GiB stay reserved, {allocated / 2**30:.1f} GiB are in use",
    )


def _parameters(path: Path) -> int:
    """From the file's size: bfloat16 weights, tied."""
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) // 2


def _flops_per_token(path: Path, length: int) -> float:
    """Of forward and backward: 6 for each parameter, and causal attention; recomputing apart."""
    config = json.loads((path / "config.json").read_text())
    attention = 6 * config["num_hidden_layers"] * config["hidden_size"] * length
    return float(6 * _parameters(path) + attention)
