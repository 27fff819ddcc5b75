"""The attention of packed rows: its refusals, its memory, and how it calls torch's CUDA kernel."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import Qwen2Config

from verl.config.model import ModelConfig
from verl.config.validation import ConfigError
from verl.workers.fsdp import attention
from verl.workers.fsdp.attention import choose_attention, varlen_attention

LENGTHS = (9, 1, 14)
WINDOW = 4


class Layer(torch.nn.Module):
    is_causal = True


def packed(dtype: torch.dtype = torch.float32) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """Query of four heads, key and value of two; and the boundaries."""
    generator = torch.Generator().manual_seed(0)
    heads = (4, 2, 2)
    tensors = [torch.randn(1, h, sum(LENGTHS), 8, generator=generator).to(dtype) for h in heads]
    starts = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    return tensors, {"cu_seq_lens_q": starts, "max_length_q": max(LENGTHS)}


def with_a_mask(tensors: list[torch.Tensor], window: int | None) -> torch.Tensor:
    """The same over the whole row, with a mask of [tokens, tokens]."""
    number = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    distance = torch.arange(len(number)).unsqueeze(-1) - torch.arange(len(number))
    mask = (number.unsqueeze(-1) == number) & (distance >= 0)
    if window is not None:
        mask &= distance < window
    query, key, value = tensors
    key, value = (t.repeat_interleave(2, dim=1) for t in (key, value))
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3)
    return output.transpose(1, 2)


@pytest.mark.parametrize("window", [None, WINDOW])
def test_each_token_sees_its_own_sequence_through_the_window(window: int | None) -> None:
    tensors, boundaries = packed()
    output, weights = varlen_attention(
        Layer(), *tensors, None, scaling=0.3, sliding_window=window, **boundaries
    )
    assert weights is None
    torch.testing.assert_close(output, with_a_mask(tensors, window))


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"softcap": 50.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"dropout": 0.1}, "dropout=0.1"),
        ({"is_causal": False}, "is_causal=False"),
        ({"cu_seq_lens_q": None}, "packed input only"),
    ],
)
def test_what_would_change_the_result_is_refused(argument: dict[str, Any], words: str) -> None:
    tensors, boundaries = packed()
    with pytest.raises(ValueError, match=words):
        varlen_attention(Layer(), *tensors, None, **(boundaries | argument))


class OnCuda(torch.Tensor):
    """Says that it lies on a GPU, so that the CUDA branch can be taken without one."""

    is_cuda = True  # type: ignore[assignment]


@pytest.mark.parametrize(("window", "expected"), [(None, (-1, 0)), (WINDOW, (WINDOW - 1, 0))])
def test_the_cuda_kernel_gets_rows_of_tokens_and_a_window_before_the_token(
    monkeypatch: pytest.MonkeyPatch, window: int | None, expected: tuple[int, int]
) -> None:
    seen: dict[str, Any] = {}
    signature = inspect.signature(varlen_attn)

    def kernel(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen.update(signature.bind(*args, **kwargs).arguments)
        return torch.zeros_like(args[0])

    monkeypatch.setattr(attention, "varlen_attn", kernel)
    tensors, boundaries = packed(torch.bfloat16)
    query, key, value = (t.as_subclass(OnCuda) for t in tensors)
    output, _ = varlen_attention(
        Layer(), query, key, value, None, scaling=0.3, sliding_window=window, **boundaries
    )
    shapes = [tuple(seen[name].shape) for name in ("query", "key", "value")]
    assert shapes == [(24, 4, 8), (24, 2, 8), (24, 2, 8)]
    assert seen["cu_seq_q"] is seen["cu_seq_k"] is boundaries["cu_seq_lens_q"]
    assert seen["max_q"] == seen["max_k"] == 14
    assert seen["scale"] == 0.3
    assert seen["window_size"] == expected
    assert seen.get("enable_gqa", True)
    assert output.shape == (1, 24, 4, 8)


@pytest.mark.parametrize(
    ("name", "device", "packed", "expected"),
    [
        ("auto", "cpu", True, "varlen"),
        ("auto", "cuda", True, "varlen"),
        ("auto", "cuda", False, "sdpa"),
        ("flash_attention_2", "cuda", True, "flash_attention_2"),
    ],
)
def test_choice(name: str, device: str, packed: bool, expected: str) -> None:
    assert choose_attention(name, device, packed, Qwen2Config()) == expected


def test_padded_input_is_refused_in_the_config() -> None:
    with pytest.raises(ConfigError, match="use_remove_padding=true"):
        ModelConfig(path="x", use_remove_padding=False, attn_implementation="varlen")
