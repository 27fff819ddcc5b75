"""Packed varlen attention against padded sdpa: same values and gradients, at which speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from gpu_stages.errors import require
from gpu_stages.timing import peak_bytes, seconds_of
from verl.workers.fsdp.attention import varlen_attention

_HEADS, _KEY_HEADS, _HEAD_SIZE = 16, 2, 128  # Qwen2.5-3B


def run(device: torch.device, record: Callable[[str, Any], None]) -> None:
    """Needs torch and transformers."""
    gpu = device.type == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    lengths = [2048, 1024, 3000, 512, 2000, 1700, 2100, 4000] if gpu else [64, 20, 100, 7]
    boundaries = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)
    packed = [_random(1, heads, sum(lengths), dtype, device) for heads in _all_heads()]
    padded = [_pad(tensor, lengths) for tensor in packed]

    def varlen() -> torch.Tensor:
        arguments = {"cu_seq_lens_q": boundaries, "max_length_q": max(lengths)}
        return varlen_attention(torch.nn.Module(), *packed, None, **arguments)[0]

    def padding() -> torch.Tensor:
        output = F.scaled_dot_product_attention(*padded, is_causal=True, enable_gqa=True)
        return output.transpose(1, 2)

    def mask_of_blocks() -> torch.Tensor:
        sequence = torch.repeat_interleave(
            torch.arange(len(lengths), device=device), torch.tensor(lengths, device=device)
        )
        mask = (sequence[:, None] == sequence[None, :]).tril()
        return F.scaled_dot_product_attention(*packed, attn_mask=mask, enable_gqa=True)

    expected = torch.cat([row[:n] for row, n in zip(padding(), lengths, strict=True)])
    gap = _relative(varlen()[0], expected)
    record("tokens", sum(lengths))
    record("forward_gap", gap)
    gradients = torch.autograd.grad(varlen().float().square().sum(), packed)
    reference = torch.autograd.grad(
        sum(row[:n].float().square().sum() for row, n in zip(padding(), lengths, strict=True)),
        padded,
    )
    gradient_gap = max(
        _relative(ours, _unpad(theirs, lengths))
        for ours, theirs in zip(gradients, reference, strict=True)
    )
    record("gradient_gap", gradient_gap)

    def both_ways(forward: Callable[[], torch.Tensor], inputs: list[torch.Tensor]) -> None:
        torch.autograd.grad(forward().float().sum(), inputs)

    for name, forward, inputs in (
        ("varlen", varlen, packed),
        ("padded_sdpa", padding, padded),
        ("masked_sdpa", mask_of_blocks, packed),
    ):
        record(f"{name}_s", seconds_of(lambda f=forward, i=inputs: both_ways(f, i), device))
        record(f"{name}_bytes", peak_bytes(lambda f=forward, i=inputs: both_ways(f, i), device))
    limit = 2e-2 if gpu else 1e-5
    require(gap < limit and gradient_gap < limit, f"varlen differs: {gap:.2g}, {gradient_gap:.2g}")


def _all_heads() -> tuple[int, int, int]:
    return _HEADS, _KEY_HEADS, _KEY_HEADS


def _random(
    batch: int, heads: int, tokens: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    shape = (batch, heads, tokens, _HEAD_SIZE)
    return torch.randn(shape, dtype=dtype, device=device).requires_grad_()


def _pad(packed: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """(1, heads, tokens, size) to (sequences, heads, longest, size), as a leaf of its own."""
    rows = packed.detach()[0].split(lengths, dim=1)
    padded = [F.pad(row, (0, 0, 0, max(lengths) - row.shape[1])) for row in rows]
    return torch.stack(padded).requires_grad_()


def _unpad(padded: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    rows = [row[:, :n] for row, n in zip(padded, lengths, strict=True)]
    return torch.cat(rows, dim=1).unsqueeze(0)


def _relative(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    difference = (ours.double() - reference.double()).norm() / reference.double().norm()
    return float(difference)
