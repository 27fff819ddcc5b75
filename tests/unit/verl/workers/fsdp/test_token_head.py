"""Scoring from hidden states in chunks: what the plain computation gives, in bounded memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from verl.algorithms.actor_loss import weighted_loss
from verl.config.model import ActorConfig
from verl.workers.fsdp.token_head import LogitTransform, token_statistics

TRANSFORMS = {
    "plain": LogitTransform(),
    "temperature": LogitTransform(temperature=0.7),
    "scaled": LogitTransform(scale=1 / 8),
    "capped": LogitTransform(scale=2.0, softcap=3.0, temperature=0.7),
}
Statistics = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def plain(
    hidden: torch.Tensor, layer: torch.nn.Linear, targets: torch.Tensor, t: LogitTransform
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from logits that exist as a whole."""
    logits = layer(hidden).float() * t.scale
    if t.softcap is not None:
        logits = t.softcap * torch.tanh(logits / t.softcap)
    logits = logits / t.temperature
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    log_probs = torch.log_softmax(logits, dim=-1)
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
    return chosen - torch.logsumexp(logits, dim=-1), entropy


def chunked(size: int) -> Statistics:
    def run(
        hidden: torch.Tensor, layer: torch.nn.Linear, targets: torch.Tensor, t: LogitTransform
    ) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs, entropy = token_statistics(hidden, layer, targets, t, size, with_entropy=True)
        assert entropy is not None
        return log_probs, entropy

    return run


def results(
    statistics: Statistics, count: int, transform: LogitTransform, bias: bool, entropy_coeff: float
) -> list[torch.Tensor]:
    """Values, and gradients by hidden states and weights, of a loss over ``count`` tokens."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(24, 301, bias=bias)
    hidden = torch.randn(count, 24, requires_grad=True)
    targets, weights = torch.randint(301, (count,)), torch.randn(count)
    log_probs, entropy = statistics(hidden, layer, targets, transform)
    loss = (log_probs * weights).sum()
    if entropy_coeff:
        loss = loss + entropy_coeff * (entropy * weights).sum()
    loss.backward()
    gradients = [hidden.grad, *(p.grad for p in layer.parameters())]
    return [log_probs, entropy, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("entropy_coeff", [0.0, 0.5])
@pytest.mark.parametrize("size", [1, 16, 64])
def test_values_and_gradients_are_the_plain_ones(
    transform: LogitTransform, entropy_coeff: float, size: int
) -> None:
    expected = results(plain, 50, transform, True, entropy_coeff)
    got = results(chunked(size), 50, transform, True, entropy_coeff)
    assert len(got) == len(expected) == 5
    for mine, wanted in zip(got, expected, strict=True):
        assert (mine - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_the_loss_may_be_of_the_entropy_alone() -> None:
    def of_entropy(statistics: Statistics) -> torch.Tensor:
        hidden = torch.linspace(-1, 1, 48).reshape(4, 12).requires_grad_()
        torch.manual_seed(0)
        layer = torch.nn.Linear(12, 30, bias=False)
        statistics(hidden, layer, torch.zeros(4, dtype=torch.int64), LogitTransform())[
            1
        ].sum().backward()
        assert hidden.grad is not None
        return hidden.grad

    torch.testing.assert_close(of_entropy(chunked(3)), of_entropy(plain), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("coefficient", [0.0, 0.01])
def test_entropy_has_a_gradient_only_where_its_coefficient_is_not_zero(coefficient: float) -> None:
    config = ActorConfig(entropy_coeff=coefficient, use_kl_loss=False)
    log_probs, entropy = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    terms = {"pg_loss": log_probs.sum(), "entropy_loss": entropy.sum()}
    weighted_loss(terms, config).backward()
    assert log_probs.grad is not None
    assert (entropy.grad is not None) == (coefficient != 0)


def test_no_token_gives_gradients_of_zero() -> None:
    """A rank without targets still takes part in the backward pass."""
    log_probs, _, of_hidden, of_weight = results(chunked(8), 0, LogitTransform(), False, 0.5)
    assert log_probs.shape == (0,)
    assert of_hidden.shape == (0, 24)
    assert torch.equal(of_weight, torch.zeros(301, 24))


def test_bfloat16_weights_give_float32_results_and_bfloat16_gradients() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(24, 301, bias=False, dtype=torch.bfloat16)
    hidden = torch.randn(50, 24, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(301, (50,))
    cold = LogitTransform(temperature=0.7)
    log_probs, entropy = chunked(16)(hidden, layer, targets, cold)
    expected, _ = plain(hidden, layer, targets, cold)
    # Exactly: the product is bfloat16 on both sides, all that follows is float32.
    assert log_probs.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(log_probs, expected, rtol=1e-6, atol=1e-6)
    (log_probs.sum() + entropy.sum()).backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.bfloat16


class LiveStorages(TorchDispatchMode):
    """Counts the bytes of tensors that operations make and that are still held."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        held = {t.untyped_storage() for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if not torch.is_tensor(tensor):
                continue
            storage = tensor.untyped_storage()
            if storage not in held and storage not in self._seen:
                self._seen.add(storage)
                self._count(storage.nbytes())
                weakref.finalize(storage, self._count, -storage.nbytes())
        return result

    def _count(self, size: int) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)


def peak_gigabytes(statistics: Statistics, response_tokens: int, update: bool) -> float:
    """Of scoring or updating with a Qwen2.5-3B's head in bfloat16; nothing is really allocated."""
    with torch.device("meta"):
        layer = torch.nn.Linear(2048, 151936, bias=False, dtype=torch.bfloat16)
        hidden = torch.empty(response_tokens, 2048, dtype=torch.bfloat16, requires_grad=update)
        targets = torch.empty(response_tokens, dtype=torch.int64)
    with LiveStorages() as storages, torch.set_grad_enabled(update):
        log_probs, entropy = statistics(hidden, layer, targets, LogitTransform(temperature=0.7))
        if update:
            (log_probs.sum() - 0.001 * entropy.sum()).backward()
    return storages.peak / 1e9


@pytest.mark.parametrize("update", [True, False], ids=["update", "scoring"])
@pytest.mark.parametrize("response_tokens", [4096, 8192, 12288, 16000])
def test_peak_memory_does_not_grow_with_the_response(response_tokens: int, update: bool) -> None:
    """Of micro-batches of 16,384 tokens, whatever share of them is response."""
    assert peak_gigabytes(chunked(2048), response_tokens, update) < 10
    # The tracker does see logits that exist as a whole.
    assert peak_gigabytes(plain, response_tokens, update) > response_tokens * 151936 * 4 * 2 / 1e9
