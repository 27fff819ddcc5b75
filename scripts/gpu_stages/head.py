"""Log-probs in chunks against the whole logits: values, gradients, peak memory, seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gpu_stages.errors import require
from gpu_stages.timing import peak_bytes, seconds_of
from verl.config.model import ModelConfig
from verl.workers.fsdp.token_head import LogitTransform, token_statistics

Inputs = tuple[torch.Tensor, torch.nn.Linear, torch.Tensor]


def run(device: torch.device, record: Callable[[str, Any], None]) -> None:
    """Needs torch; the shape is that of Qwen2.5-3B."""
    gpu = device.type == "cuda"
    vocabulary, hidden_size = (151_936, 2048) if gpu else (5_000, 64)
    dtype = torch.bfloat16 if gpu else torch.float32
    layer = torch.nn.Linear(hidden_size, vocabulary, bias=False, dtype=dtype, device=device)
    for tokens in (2048, 4096, 8192, 16_000) if gpu else (64, 256):
        hidden = torch.randn(tokens, hidden_size, dtype=dtype, device=device).requires_grad_()
        targets = torch.randint(vocabulary, (tokens,), device=device)
        inputs = (hidden, layer, targets)
        for name, function in (("chunked", _chunked), ("plain", _plain)):
            try:
                work = _update(function, inputs)
                record(f"{name}_{tokens}_bytes", peak_bytes(work, device))
                record(f"{name}_{tokens}_s", seconds_of(work, device))
            except torch.OutOfMemoryError:
                record(f"{name}_{tokens}_bytes", "out of memory")
                torch.cuda.empty_cache()
        if tokens <= 4096:
            gap, gradient_gap = _gaps(inputs)
            record(f"value_gap_{tokens}", gap)
            record(f"gradient_gap_{tokens}", gradient_gap)
            limit = 2e-2 if gpu else 1e-5
            require(gap < 1e-4, f"log-probs differ by {gap:.2g}")
            require(gradient_gap < limit, f"gradients differ by {gradient_gap:.2g} (relative)")


def _chunked(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    hidden, layer, targets = inputs
    statistics = token_statistics(
        hidden, layer, targets, LogitTransform(), ModelConfig().logits_chunk_tokens, True
    )
    assert statistics.entropy is not None
    return statistics.log_probs, statistics.entropy


def _plain(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    hidden, layer, targets = inputs
    all_log_probs = layer(hidden).float().log_softmax(-1)
    entropy = -(all_log_probs.exp() * all_log_probs).sum(-1)
    return all_log_probs.gather(-1, targets[:, None]).squeeze(-1), entropy


def _update(
    function: Callable[[Inputs], tuple[torch.Tensor, torch.Tensor]], inputs: Inputs
) -> Callable[[], tuple[torch.Tensor, ...]]:
    """Forward and backward of a loss with an entropy bonus."""

    def work() -> tuple[torch.Tensor, ...]:
        log_probs, entropy = function(inputs)
        loss = -log_probs.mean() - 0.001 * entropy.mean()
        return torch.autograd.grad(loss, (inputs[0], inputs[1].weight))

    return work


def _gaps(inputs: Inputs) -> tuple[float, float]:
    """Largest difference of a log-prob, and the larger relative difference of a gradient."""
    with torch.no_grad():
        gap = float((_chunked(inputs)[0] - _plain(inputs)[0]).abs().max())
    ours, theirs = _update(_chunked, inputs)(), _update(_plain, inputs)()
    relative = [
        float((a.double() - b.double()).norm() / b.double().norm())
        for a, b in zip(ours, theirs, strict=True)
    ]
    return gap, max(relative)
