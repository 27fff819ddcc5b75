"""Causal attention within each sequence of a packed row, without flash-attn and without a mask.

Guarantees: no tensor of [tokens, tokens] over the whole row exists; a token sees its own sequence
only, through the model's sliding window where the layer has one; what the kernel cannot do is
refused by name instead of being left out.

The function is registered with transformers under :data:`VARLEN`. No mask function is registered
with it: transformers then hands ``attention_mask=None`` to the layers and looks for no sequence
boundaries in the position ids, which would synchronise the device. The boundaries come as
``cu_seq_lens_q`` and ``max_length_q``, the keyword arguments that flash-attention takes as well.
"""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, PreTrainedConfig

from verl.config.validation import ConfigError
from verl.utils.sequence_packing import ModelInput

VARLEN = "varlen"

# Arguments of transformers' layers that do not change what attention computes.
_NEUTRAL = {
    "cu_seq_lens_k",
    "max_length_k",
    "output_attentions",
    "output_hidden_states",
    "position_ids",
    "return_dict",
    "use_cache",
}
# Older versions of torch take grouped heads without being told.
_GROUPED_HEADS: dict[str, Any] = (
    {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
)


def choose_attention(name: str, device: str, packed: bool, config: PreTrainedConfig) -> str:
    """The attention function for a model; settles "auto".

    Raises:
        ConfigError: if the model caps its attention scores (Gemma 2) and the function named would
            silently not do it.
    """
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    if name == "auto" and capped:
        has_flash = device == "cuda" and importlib.util.find_spec("flash_attn") is not None
        return "flash_attention_2" if has_flash else "eager"
    if name == "auto":
        return VARLEN if packed else "sdpa"
    if capped and name in (VARLEN, "sdpa"):
        raise ConfigError(
            f"model.attn_implementation={name!r} cannot cap attention scores, as "
            f"{config.model_type} does; use eager, or flash_attention_2 on CUDA"
        )
    return name


def packing_arguments(batch: ModelInput) -> dict[str, Any]:
    """Sequence boundaries as keyword arguments of a transformers model; none for padded input."""
    if batch.cu_seq_lens is None:
        return {}
    return {
        "cu_seq_lens_q": batch.cu_seq_lens,
        "cu_seq_lens_k": batch.cu_seq_lens,
        "max_length_q": batch.max_seq_len,
        "max_length_k": batch.max_seq_len,
    }


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **unused: Any,
) -> tuple[torch.Tensor, None]:
    """A transformers attention function; gives (1, tokens, heads, head size), and None for the
    attention weights.

    Args:
        query: (1, heads, tokens, head size).
        key, value: (1, key heads, tokens, head size).
        scaling: of the scores; None is ``head size ** -0.5``.
        sliding_window: tokens that a token sees, itself among them; None is all before it.
        cu_seq_lens_q: (sequences + 1,) int32 boundaries.
        max_length_q: tokens of the longest sequence.

    Raises:
        ValueError: for padded input, or an argument that would change the result.
    """
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    foreign = [n for n, v in unused.items() if n not in _NEUTRAL and v is not None]
    if dropout:
        foreign.append(f"dropout={dropout}")
    if not is_causal:
        foreign.append("is_causal=False")
    if foreign:
        raise ValueError(
            f"varlen attention has no {', '.join(foreign)}, which {type(module).__name__} asks "
            "for; set model.attn_implementation to sdpa, eager or flash_attention_2"
        )
    if cu_seq_lens_q is None or max_length_q is None or attention_mask is not None:
        raise ValueError("varlen attention takes packed input only; set use_remove_padding=true")
    if query.is_cuda and query.dtype != torch.float32:
        output: Any = varlen_attn(
            query[0].transpose(0, 1),
            key[0].transpose(0, 1),
            value[0].transpose(0, 1),
            cu_seq_lens_q,
            cu_seq_lens_q,
            max_length_q,
            max_length_q,
            scale=scaling,
            # torch counts the tokens before the present one.
            window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
            **_GROUPED_HEADS,
        )
        return output.unsqueeze(0), None
    # The kernel is for half precision on CUDA.
    by_sequence = _attend_in_graph if torch.compiler.is_compiling() else _attend
    output = by_sequence(query, key, value, cu_seq_lens_q, scaling, sliding_window)
    return output.transpose(1, 2), None


AttentionInterface.register(VARLEN, varlen_attention)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """The attention of :func:`varlen_attention`, one sequence after the other; returns (1, heads,
    tokens, head size of the values)."""
    lengths = cu_seq_lens.diff().tolist()
    outputs = []
    for q, k, v in zip(*(t.split(lengths, dim=2) for t in (query, key, value)), strict=True):
        length = q.shape[2]
        mask = None
        if sliding_window is not None and length > sliding_window:
            allowed = torch.ones(length, length, dtype=torch.bool, device=q.device)
            mask = allowed.tril().triu(1 - sliding_window)
        outputs.append(
            F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=k.shape[1] != q.shape[1],
            )
        )
    return torch.cat(outputs, dim=2)


@torch.library.custom_op("verl::attention_by_sequence", mutates_args=())
def _attend_in_graph(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """:func:`_attend` as one operator of torch.compile's graph, which a loop over lengths that only
    the data tells would end. Its backward pass computes the attention again instead of keeping what
    autograd would."""
    return _attend(query, key, value, cu_seq_lens, scaling, sliding_window).contiguous()


@torch.library.custom_op("verl::attention_by_sequence_backward", mutates_args=())
def _gradients(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return _attend(q, k, v, cu_seq_lens, scaling, sliding_window)

    # Autograd records nothing within an operator, but torch.func does.
    gradients = torch.func.vjp(attention, query, key, value)[1]
    dq, dk, dv = gradients(gradient)
    return dq.contiguous(), dk.contiguous(), dv.contiguous()


@_attend_in_graph.register_fake
def _(query: torch.Tensor, _key: torch.Tensor, value: torch.Tensor, *_: Any) -> torch.Tensor:
    return query.new_empty((*query.shape[:3], value.shape[3]))


@_gradients.register_fake
def _(_gradient: torch.Tensor, *inputs: Any) -> tuple[torch.Tensor, ...]:
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in inputs[:3])


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG001
    *tensors, ctx.scaling, ctx.sliding_window = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    gradients = _gradients(gradient, *ctx.saved_tensors, ctx.scaling, ctx.sliding_window)
    return (*gradients, None, None, None)


_attend_in_graph.register_autograd(_backward, setup_context=_keep_inputs)
