"""PPO and GRPO mathematics against the reference, and what must hold for any input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import reference_file
from verl.algorithms.maths import entropy_from_logits, masked_mean, masked_whiten
from verl.config.algorithm import AlgorithmConfig, KLControlConfig
from verl.protocol import DataProto
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.advantage import add_token_level_scores, apply_kl_penalty, make_kl_controller

Reader = Callable[[str], torch.Tensor]


@pytest.fixture(params=["0", "1", "2", "3"])
def reference(request: pytest.FixtureRequest) -> Reader:
    arrays = np.load(reference_file("algos_public.npz"))
    return lambda name: torch.as_tensor(arrays[f"{request.param}/{name}"])


def _close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0, check_dtype=False)


def test_gae(reference: Reader) -> None:
    # The reference stores gamma and lambda as float32; the original got them as Python floats.
    gamma, lam = (round(float(reference(name)), 6) for name in ("gamma", "lam"))
    mask = reference("mask")
    advantages, returns = core_algos.compute_gae_advantage_return(
        reference("rewards"), reference("values"), mask, gamma, lam
    )
    _close(advantages * mask, reference("gae_advantages") * mask)
    _close(returns * mask, reference("gae_returns") * mask)


def test_grpo(reference: Reader) -> None:
    rewards, mask = reference("rewards"), reference("mask")
    groups = [i // 4 for i in range(len(rewards))]
    advantages, _ = core_algos.compute_grpo_outcome_advantage(rewards, mask, groups)
    _close(advantages, reference("grpo_advantages"))


def test_losses(reference: Reader) -> None:
    mask = reference("mask")
    policy = core_algos.compute_policy_loss(
        reference("old_log_prob"), reference("log_prob"), reference("gae_advantages"), mask, 0.2
    )
    for value, name in zip(policy, ("pg_loss", "pg_clipfrac", "ppo_kl"), strict=True):
        _close(value, reference(name))
    value_loss = core_algos.compute_value_loss(
        reference("vpreds"), reference("gae_returns"), reference("values"), mask, 0.5
    )
    for value, name in zip(value_loss, ("vf_loss", "vf_clipfrac"), strict=True):
        _close(value, reference(name))


def test_entropy_and_kl(reference: Reader) -> None:
    entropy = entropy_from_logits(reference("logits"))
    expected = reference("entropy")
    if expected.ndim == 0:
        entropy = masked_mean(entropy, reference("mask"))
    _close(entropy, expected)
    for name in ("kl", "abs", "mse", "low_var_kl"):
        estimate = core_algos.kl_penalty(reference("log_prob"), reference("ref_log_prob"), name)
        _close(estimate, reference(f"kl_{name}"))


def _random_batch(seed: int, rows: int = 3, width: int = 9) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(rows, width, generator=generator) < 0.6).float()
    mask[:, 0] = 1
    rewards, values = (torch.randn(rows, width, generator=generator) for _ in range(2))
    return rewards * mask, values, mask


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), gamma=st.floats(0.5, 1), lam=st.floats(0.5, 1))
def test_observations_are_no_time_steps(seed: int, gamma: float, lam: float) -> None:
    """Cutting the observations out gives the same advantages and returns."""
    rewards, values, mask = _random_batch(seed)
    advantages, returns = core_algos.compute_gae_advantage_return(rewards, values, mask, gamma, lam)
    width = int(mask.sum(dim=1).max())
    squeezed = [torch.zeros(len(mask), width) for _ in range(3)]
    for row in range(len(mask)):
        kept = mask[row].bool()
        for target, source in zip(squeezed, (rewards, values, mask), strict=True):
            target[row, : int(kept.sum())] = source[row, kept]
    short_advantages, short_returns = core_algos.compute_gae_advantage_return(*squeezed, gamma, lam)
    _close(advantages[mask.bool()], short_advantages[squeezed[2].bool()], atol=1e-5)
    _close(returns[mask.bool()], short_returns[squeezed[2].bool()], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_observations_hold_does_not_matter(seed: int) -> None:
    rewards, values, mask = _random_batch(seed)
    noise = torch.randn(values.shape) * (1 - mask) * 100
    first = core_algos.compute_gae_advantage_return(rewards, values, mask, 1.0, 0.9)
    second = core_algos.compute_gae_advantage_return(rewards, values + noise, mask, 1.0, 0.9)
    for a, b in zip(first, second, strict=True):
        _close(a * mask, b * mask)
    old, new = torch.randn(2, *mask.shape)
    losses = core_algos.compute_policy_loss(old, new, first[0], mask, 0.2)
    noisy = core_algos.compute_policy_loss(old + noise, new, first[0], mask, 0.2)
    for a, b in zip(losses, noisy, strict=True):
        _close(a, b)


def test_whitening_uses_masked_tokens_only() -> None:
    values = torch.tensor([[1.0, 2.0, 1e6], [3.0, 4.0, -1e6]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    whitened = masked_whiten(values, mask)[mask.bool()]
    assert whitened.mean().item() == pytest.approx(0, abs=1e-6)
    assert whitened.std().item() == pytest.approx(1, abs=1e-4)


def test_grpo_groups_are_centred_whatever_the_order() -> None:
    rewards = torch.tensor([[1.0], [0.0], [0.0], [1.0], [5.0]])
    mask = torch.ones(5, 1)
    advantages, _ = core_algos.compute_grpo_outcome_advantage(rewards, mask, list("abbaa"))
    assert advantages[[1, 2]].abs().max() == 0  # both of group b got the same reward
    assert advantages[[0, 3, 4]].sum().item() == pytest.approx(0, abs=1e-5)
    alone, _ = core_algos.compute_grpo_outcome_advantage(rewards[:1], mask[:1], ["a"])
    assert alone.item() == pytest.approx(1, abs=1e-5)


def test_unknown_kl_estimator_is_named() -> None:
    with pytest.raises(ValueError, match="k7"):
        core_algos.kl_penalty(torch.zeros(1), torch.zeros(1), "k7")


def test_kl_controllers() -> None:
    fixed = make_kl_controller(AlgorithmConfig(kl_ctrl=KLControlConfig(kl_coef=0.3)))
    fixed.update(99.0, 100)
    assert fixed.value == 0.3
    control = KLControlConfig(type="adaptive", kl_coef=0.1, target_kl=0.5, horizon=100)
    adaptive = make_kl_controller(AlgorithmConfig(kl_ctrl=control))
    adaptive.update(5.0, 10)
    assert adaptive.value == pytest.approx(0.1 * 1.02)
    adaptive.update(0.0, 10)
    assert adaptive.value == pytest.approx(0.1 * 1.02 * 0.98)


def test_score_goes_to_the_last_sampled_token_and_kl_comes_off() -> None:
    mask = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 0, 0, 0]])
    batch = DataProto.from_dict(
        {
            "response_mask": mask,
            "old_log_probs": torch.full((2, 5), -1.0),
            "ref_log_prob": torch.full((2, 5), -1.5),
        }
    )
    add_token_level_scores(batch, torch.tensor([2.0, -1.0], dtype=torch.float64))
    assert batch.batch is not None
    assert batch.batch["token_level_scores"].tolist() == [[0, 0, 0, 2, 0], [-1, 0, 0, 0, 0]]
    metrics = apply_kl_penalty(batch, core_algos.FixedKLController(0.1), "kl")
    expected = torch.tensor([[-0.05, -0.05, 0, 1.95, 0], [-1.05, 0, 0, 0, 0]])
    _close(batch.batch["token_level_rewards"], expected)
    assert metrics["critic/kl"] == pytest.approx(0.5)
