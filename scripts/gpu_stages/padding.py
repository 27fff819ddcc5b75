"""Packed and padded batches of uneven trajectories: log-probs, and seconds of an update."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gpu_stages.errors import require
from gpu_stages.one_rank import make_actor
from gpu_stages.random_model import random_batch, vocabulary_of, write_random_model
from gpu_stages.timing import seconds_of
from verl.config.model import ActorConfig, ModelConfig
from verl.protocol import DataProto
from verl.workers.fsdp.actor import ActorWorker

_TOKENS = 4096


def run(device: torch.device, record: Callable[[str, Any], None], shape: str) -> None:
    """Needs tensordict, omegaconf, transformers.

    Rounding of bfloat16 moves single log-probs of a deep model by tenths, packed or not; both are
    therefore held against a float32 pass over the same weights.
    """
    gpu = device.type == "cuda"
    shape, tokens, dtype = (shape, _TOKENS, "bfloat16") if gpu else ("tiny", 256, "float32")
    with tempfile.TemporaryDirectory() as folder:
        path = write_random_model(shape, Path(folder), device)
        batch = _uneven(random_batch(vocabulary_of(shape), 4, tokens // 4))
        exact = _log_probs(_actor(path, device, "float32", packed=False), batch)
        gaps = {}
        for name, packed in (("packed", True), ("padded", False)):
            _free_memory(device)
            actor = _actor(path, device, dtype, packed)
            gap = (_log_probs(actor, batch) - exact).abs()
            gaps[name] = float(gap.mean())
            record(f"{name}_gap_to_float32_mean", gaps[name])
            record(f"{name}_gap_to_float32_max", float(gap.max()))
            record(f"{name}_update_s", seconds_of(partial(actor.update_actor, batch), device))
            del actor
    require(
        gaps["packed"] < 1.1 * gaps["padded"] + 1e-5,
        f"packed log-probs are off by {gaps['packed']:.3g}, padded by {gaps['padded']:.3g}",
    )


def _actor(path: Path, device: torch.device, dtype: str, packed: bool) -> ActorWorker:
    model = ModelConfig(path=str(path), dtype=dtype, use_remove_padding=packed)
    return make_actor(model, ActorConfig(entropy_coeff=0.001, use_kl_loss=False), device)


def _log_probs(actor: ActorWorker, batch: DataProto) -> torch.Tensor:
    """Of the sampled tokens, in one row."""
    scored = actor.compute_log_probs(batch).batch
    assert scored is not None
    assert batch.batch is not None
    return scored["old_log_probs"][batch.batch["response_mask"].bool()]


def _free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _uneven(batch: DataProto) -> DataProto:
    """Cuts the ends off some trajectories, so that padding has something to pad."""
    tensors = batch.batch
    assert tensors is not None
    width = tensors["responses"].shape[1]
    for row in range(len(batch)):
        cut = row * width // (2 * len(batch))
        if cut:
            tensors["attention_mask"][row, -cut:] = 0
            tensors["response_mask"][row, -cut:] = 0
    return batch
