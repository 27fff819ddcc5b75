"""Any advantage goes with any loss, aggregation and correction, and is what plain PyTorch makes of
the formulas; how a mini-batch is cut changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.actor_updates import loss_and_gradient
from tests.reference_update import (
    ADVANTAGES,
    LOSSES,
    REWARD_KL,
    Combination,
    combinations_of,
    reference_loss,
)
from verl.algorithms.kl import FixedKLController
from verl.algorithms.policy_losses import find_policy_loss
from verl.config.algorithm import AlgorithmConfig, RolloutCorrectionConfig
from verl.config.model import AGGREGATIONS, ActorConfig
from verl.protocol import DataProto
from verl.trainer.ppo.advantage import add_advantages, add_rollout_weights, apply_kl_penalty


@pytest.fixture(autouse=True)
def one_thread_of_doubles() -> Iterator[None]:
    """Tensors this small wait longer for a second thread than they compute."""
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)


def _batch(seed: int, rows: int = 8, width: int = 7) -> dict[str, torch.Tensor]:
    """Two samples a prompt; observations in the masks; the last row has no sampled token."""
    generator = torch.Generator().manual_seed(seed)

    def noise(scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(rows, width, generator=generator)

    mask = (torch.rand(rows, width, generator=generator) < 0.6).double()
    mask[:, 0] = 1
    mask[-1] = 0
    log_prob = -1.5 + noise(0.5)
    old = log_prob + noise(0.3)
    return {
        "token_level_scores": noise() * mask,
        "values": noise(),
        "greedy_scores": noise()[:, 0],
        "response_mask": mask,
        "log_prob": log_prob,
        "old_log_probs": old,
        "rollout_log_probs": old + noise(0.1),
        "ref_log_prob": old + noise(0.1),
    }


def _config(loss: str, mode: str, **more: Any) -> ActorConfig:
    return Combination("gae", loss, mode, None, "truncate").actor(**more)


@pytest.mark.parametrize(("estimator", "loss"), itertools.product(ADVANTAGES, LOSSES))
def test_every_combination_is_what_the_formulas_say(estimator: str, loss: str) -> None:
    for how, loss_kl in zip(combinations_of(estimator, loss), itertools.cycle((0.0, 0.2))):
        columns = _batch(seed=5)
        batch = DataProto.from_dict(columns, {"uid": [i // 2 for i in range(8)]})
        metrics = add_rollout_weights(batch, how.algorithm)
        apply_kl_penalty(batch, FixedKLController(REWARD_KL), "kl")
        add_advantages(batch, how.algorithm)
        assert batch.batch is not None
        config = how.actor(use_kl_loss=loss_kl > 0, kl_loss_coef=loss_kl)
        cut = [[4, 1], [], [7, 0, 2], [6], [3, 5]]
        loss_value, gradient, _ = loss_and_gradient(dict(batch.batch.items()), config, cut)
        x = columns["log_prob"].clone().requires_grad_()
        expected = reference_loss(columns, x, how, loss_kl)
        (slope,) = torch.autograd.grad(expected, x)
        where = f"{how}, {loss_kl}"
        torch.testing.assert_close(loss_value, expected.detach(), atol=1e-10, rtol=0, msg=where)
        torch.testing.assert_close(gradient, slope, atol=1e-10, rtol=0, msg=where)
        assert bool(metrics) == (how.level is not None)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10**6), loss=st.sampled_from(LOSSES), mode=st.sampled_from(AGGREGATIONS))
def test_the_cut_into_micro_batches_and_what_observations_hold_change_nothing(
    seed: int, loss: str, mode: str
) -> None:
    columns = _batch(seed)
    generator = torch.Generator().manual_seed(seed)
    columns["advantages"] = torch.randn(columns["log_prob"].shape, generator=generator)
    columns["rollout_weights"] = columns["advantages"].abs()
    columns["entropy"] = columns["advantages"].square()
    config = _config(loss, mode, entropy_coeff=0.1, use_kl_loss=True, kl_loss_coef=0.2)
    whole = loss_and_gradient(columns, config)
    order = torch.randperm(8, generator=generator)
    cut = [part.tolist() for part in order.tensor_split([1, 1, 4])]
    for name in ("advantages", "old_log_probs", "ref_log_prob", "entropy"):
        columns[name] = torch.where(columns["response_mask"] > 0, columns[name], 1e6)
    parts = loss_and_gradient(columns, config, cut)
    for one, other in zip(whole[:2], parts[:2], strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)
    assert whole[2] == pytest.approx(parts[2])
    assert set(parts[2]) >= {"pg_loss", "kl_loss", "entropy_loss"}


def test_masked_trajectories_count_as_none() -> None:
    """Rows that fill a mini-batch up change no mean over trajectories."""
    columns = _batch(seed=2)
    columns["advantages"] = columns["token_level_scores"]
    filled = {name: torch.cat([values, values[:3]]) for name, values in columns.items()}
    filled["response_mask"][8:] = 0
    for mode in AGGREGATIONS:
        alone, _, _ = loss_and_gradient(columns, _config("clip", mode))
        together, gradient, _ = loss_and_gradient(filled, _config("clip", mode))
        torch.testing.assert_close(alone, together)
        assert not gradient[8:].any()


def test_correction_metrics_say_how_far_apart_engine_and_trainer_are() -> None:
    mask = torch.tensor([[1, 1, 0, 1]])
    rollout = torch.zeros(1, 4)
    old = torch.tensor([[0.0, 1.0, 50.0, -1.0]])
    batch = DataProto.from_dict(
        {"old_log_probs": old, "rollout_log_probs": rollout, "response_mask": mask}
    )
    config = AlgorithmConfig(
        rollout_correction=RolloutCorrectionConfig("token", "mask", upper=2.0, lower=0.5)
    )
    metrics = add_rollout_weights(batch, config)
    assert batch.batch is not None
    assert batch.batch["rollout_weights"].tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert metrics["rollout_corr/masked_share"] == pytest.approx(2 / 3)
    assert metrics["rollout_corr/kl"] == pytest.approx(0.0)
    assert metrics["rollout_corr/k3_kl"] == pytest.approx((2.718282 + 0.367879 - 2) / 3, abs=1e-5)
    assert metrics["rollout_corr/mean_weight"] == pytest.approx(1 / 3)


def test_policy_losses_are_files() -> None:
    assert find_policy_loss("gspo") is not find_policy_loss("clip")
    with pytest.raises(ValueError, match=r"actor.policy_loss='base'.*: cispo, clip, gspo$"):
        ActorConfig(policy_loss="base")
