"""Log-probabilities and entropies of target tokens, straight from hidden states.

Guarantees: logits of [tokens, vocabulary] never exist beyond one chunk of tokens, neither in the
forward nor in the backward pass; they are float32 from the product on, whatever the weights are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class LogitTransform:
    """What stands between the output layer's product and the softmax.

    ``logits = softcap * tanh(scale * product / softcap) / temperature``, without the tanh where
    ``softcap`` is None.
    """

    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0

    def apply_(self, product: torch.Tensor) -> torch.Tensor:
        """Turns the product into logits, in place."""
        if self.scale != 1.0:
            product.mul_(self.scale)
        if self.softcap is not None:
            product.div_(self.softcap).tanh_().mul_(self.softcap)
        if self.temperature != 1.0:
            product.div_(self.temperature)
        return product

    def bend(self, logits: torch.Tensor) -> torch.Tensor | None:
        """What the softcap multiplies the logits' derivative by the product by, as (n, V); None
        without softcap."""
        if self.softcap is None:
            return None
        return (logits * (self.temperature / self.softcap)).square_().neg_().add_(1.0)


class TokenStatistics(NamedTuple):
    """Of n target tokens, (n,) float32 each, nats."""

    log_probs: torch.Tensor
    entropy: torch.Tensor | None  # of the target's distribution; None unless it was asked for


def token_statistics(
    hidden: torch.Tensor,
    output_layer: torch.nn.Linear,
    targets: torch.Tensor,
    transform: LogitTransform,
    chunk_tokens: int,
    with_entropy: bool = False,
) -> TokenStatistics:
    """Scores the targets against the output layer's distribution, differentiably.

    The backward pass computes each chunk's logits again. The entropy's part of it costs nothing
    where the loss does not depend on the entropy.

    Args:
        hidden: (n, hidden size), the positions that predict the targets.
        targets: (n,) int64.
        chunk_tokens: tokens whose logits exist at a time.
    """
    weight, bias = output_layer.weight, output_layer.bias
    return TokenStatistics(
        *_TokenStatistics.apply(
            hidden, weight, bias, targets, transform, chunk_tokens, with_entropy
        )
    )


class _TokenStatistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        transform: LogitTransform,
        chunk_tokens: int,
        with_entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        log_probs = hidden.new_empty(len(hidden), dtype=torch.float32)
        normaliser = torch.empty_like(log_probs)
        entropy = torch.empty_like(log_probs) if with_entropy else None
        for part in _chunks(len(hidden), chunk_tokens):
            logits = transform.apply_(F.linear(hidden[part], weight, bias).float())
            normaliser[part] = torch.logsumexp(logits, dim=-1)
            chosen = logits.gather(-1, targets[part].unsqueeze(-1)).squeeze(-1)
            log_probs[part] = chosen - normaliser[part]
            if entropy is not None:
                all_log_probs = logits.sub_(normaliser[part].unsqueeze(-1))
                entropy[part] = -(all_log_probs.exp().mul_(all_log_probs)).sum(dim=-1)
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser, entropy)
        ctx.transform, ctx.chunk_tokens = transform, chunk_tokens
        ctx.set_materialize_grads(False)
        return log_probs, entropy

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_log_probs: torch.Tensor | None, grad_entropy: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, bias, targets, normaliser, entropy = ctx.saved_tensors
        transform: LogitTransform = ctx.transform
        factor = transform.scale / transform.temperature  # of the logits by the product
        grad_hidden = torch.empty_like(hidden)
        # Summed over chunks, hence in float32; a frozen layer needs none.
        _, of_weight, of_bias, *_ = ctx.needs_input_grad
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if of_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if of_bias else None
        for part in _chunks(len(hidden), ctx.chunk_tokens):
            logits = transform.apply_(F.linear(hidden[part], weight, bias).float())
            bend = transform.bend(logits)
            grad = _logit_gradient(
                logits.sub_(normaliser[part].unsqueeze(-1)),
                targets[part],
                None if grad_log_probs is None else grad_log_probs[part] * factor,
                None if grad_entropy is None else grad_entropy[part] * factor,
                None if entropy is None else entropy[part],
            )
            grad = (grad if bend is None else grad.mul_(bend)).to(weight.dtype)
            torch.mm(grad, weight, out=grad_hidden[part])
            if grad_weight is not None and weight.dtype == torch.float32:
                grad_weight.addmm_(grad.t(), hidden[part])
            elif grad_weight is not None:
                grad_weight += grad.t() @ hidden[part]
            if grad_bias is not None:
                grad_bias += grad.sum(dim=0)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            *(None,) * 4,
        )


def _logit_gradient(
    all_log_probs: torch.Tensor,
    targets: torch.Tensor,
    grad_log_probs: torch.Tensor | None,
    grad_entropy: torch.Tensor | None,
    entropy: torch.Tensor | None,
) -> torch.Tensor:
    """Gradient by the logits, (n, V); ``all_log_probs`` (n, V) is overwritten.

    A target's log-prob has the derivative ``onehot - p``, the entropy ``-p * (log p + entropy)``.
    """
    if grad_entropy is None:
        grad = all_log_probs.exp_()
        if grad_log_probs is None:
            return grad.zero_()
        grad.mul_(-grad_log_probs.unsqueeze(-1))
    else:
        assert entropy is not None
        grad = all_log_probs.exp()
        weights = all_log_probs.add_(entropy.unsqueeze(-1)).mul_(-grad_entropy.unsqueeze(-1))
        if grad_log_probs is not None:
            weights.sub_(grad_log_probs.unsqueeze(-1))
        grad.mul_(weights)
    if grad_log_probs is not None:
        grad.scatter_add_(-1, targets.unsqueeze(-1), grad_log_probs.unsqueeze(-1))
    return grad


def _chunks(total: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, total, size)]
