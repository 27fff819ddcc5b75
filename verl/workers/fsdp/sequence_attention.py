"""Causal attention within each sequence of a packed row, one sequence after the other.

Guarantees: no tensor of [tokens, tokens] over the whole row exists. The loop runs over lengths that
only the data tells, which would end torch.compile's graph; :func:`attend_in_graph` hides it in an
operator.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """Attention of packed sequences.

    Args:
        query: (1, heads, tokens, head size).
        key, value: (1, key heads, tokens, head size).
        cu_seq_lens: (sequences + 1,) int32 boundaries.
        scaling: of the scores; None is ``head size ** -0.5``.
        sliding_window: tokens that a token sees, itself among them; None is all before it.

    Returns:
        (1, heads, tokens, head size of the values).
    """
    lengths = cu_seq_lens.diff().tolist()
    pieces = zip(*(t.split(lengths, dim=2) for t in (query, key, value)), strict=True)
    outputs = [_one_sequence(q, k, v, scaling, sliding_window) for q, k, v in pieces]
    return torch.cat(outputs, dim=2)


def _one_sequence(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    length = query.shape[2]
    mask = None
    if sliding_window is not None and length > sliding_window:
        allowed = torch.ones(length, length, dtype=torch.bool, device=query.device)
        mask = allowed.tril().triu(1 - sliding_window)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=key.shape[1] != query.shape[1],
    )


@torch.library.custom_op("verl::attention_by_sequence", mutates_args=())
def attend_in_graph(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    """:func:`attend` as one operator of torch.compile's graph.

    The backward pass computes the attention again instead of keeping what autograd would.
    """
    return attend(query, key, value, cu_seq_lens, scaling, sliding_window).contiguous()


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
        return attend(q, k, v, cu_seq_lens, scaling, sliding_window)

    # Autograd records nothing within an operator, but torch.func does.
    gradients = torch.func.vjp(attention, query, key, value)[1]
    dq, dk, dv = gradients(gradient)
    return dq.contiguous(), dk.contiguous(), dv.contiguous()


@attend_in_graph.register_fake
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


attend_in_graph.register_autograd(_backward, setup_context=_keep_inputs)
