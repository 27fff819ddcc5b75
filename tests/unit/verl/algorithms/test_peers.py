"""Advantages, losses, their gradients and correction weights against another implementation's.

That one does not skip observations in the returns of REINFORCE++: there its outputs belong to the
masks without holes. All else is on masks with observations in them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.actor_updates import loss_and_gradient
from tests.conftest import reference_file
from verl.algorithms import find_algorithm
from verl.algorithms.base import ScoredBatch
from verl.algorithms.rollout_correction import correction_weights
from verl.config.algorithm import AlgorithmConfig, RolloutCorrectionConfig
from verl.config.model import AGGREGATIONS, ActorConfig

Reader = Callable[[str], torch.Tensor]


@pytest.fixture(params=["0", "1", "2", "3"])
def peer(request: pytest.FixtureRequest) -> Reader:
    arrays = np.load(reference_file("algos_peers_public.npz"))
    return lambda name: torch.as_tensor(arrays[f"{request.param}/{name}"])


def _close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("name", "key", "suffix"),
    [
        ("rloo", "rloo", ""),
        ("dr_grpo", "grpo_without_std", ""),
        ("reinforce_plus_plus", "reinforce_plus_plus", "_contiguous"),
        ("reinforce_plus_plus_baseline", "reinforce_plus_plus_baseline", ""),
        ("remax", "remax", ""),
    ],
)
def test_advantages(peer: Reader, name: str, key: str, suffix: str) -> None:
    mask = peer(f"mask{suffix}")
    batch = ScoredBatch(
        peer(f"rewards{suffix}"),
        mask,
        peer("group").tolist(),
        greedy_scores=peer("greedy_scores"),
    )
    advantages, returns = find_algorithm(name).advantages(batch, AlgorithmConfig(gamma=1.0))
    assert not (advantages * (1 - mask)).any()
    _close(advantages, peer(key) * mask)
    if name == "reinforce_plus_plus":
        _close(returns, peer("reinforce_plus_plus_returns") * mask)


def _columns(peer: Reader, advantages: str) -> dict[str, torch.Tensor]:
    return {
        "log_prob": peer("log_prob"),
        "old_log_probs": peer("old_log_prob"),
        "advantages": peer(advantages),
        "response_mask": peer("mask"),
    }


def _check_loss(peer: Reader, key: str, advantages: str, config: ActorConfig) -> None:
    columns = _columns(peer, advantages)
    loss, gradient, sums = loss_and_gradient(columns, config)
    _close(loss, peer(f"{key}.loss"))
    _close(gradient, peer(f"{key}.grad"))
    clipped = torch.tensor(sums["pg_clipfrac"], dtype=torch.float64) / peer("mask").sum()
    _close(clipped, peer(f"{key}.clipfrac"))


@pytest.mark.parametrize("mode", AGGREGATIONS)
def test_clip_with_two_bounds_and_dual_clip(peer: Reader, mode: str) -> None:
    config = ActorConfig(
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
        clip_ratio_c=3.0,
        loss_agg_mode=mode,
        loss_agg_horizon=peer("mask").shape[1] if mode.endswith("norm") else None,
        entropy_coeff=0.0,
    )
    _check_loss(peer, f"clip_higher_dual_clip.{mode}", "advantages", config)


def test_gspo(peer: Reader) -> None:
    config = ActorConfig(
        policy_loss="gspo",
        clip_ratio_low=3e-4,
        clip_ratio_high=4e-4,
        loss_agg_mode="seq-mean-token-mean",
        entropy_coeff=0.0,
    )
    _check_loss(peer, "gspo.seq-mean-token-mean", "sequence_advantages", config)


def test_cispo(peer: Reader) -> None:
    config = ActorConfig(
        policy_loss="cispo", clip_ratio_low=0.2, clip_ratio_high=0.28, entropy_coeff=0.0
    )
    _check_loss(peer, "cispo.token-mean", "advantages", config)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_truncated_importance_weights(peer: Reader, level: str) -> None:
    weights, _ = correction_weights(
        peer("old_log_prob"),
        peer("rollout_log_prob"),
        peer("mask"),
        RolloutCorrectionConfig(level=level, upper=2.0),
    )
    _close(weights, peer(f"tis_{level}_2.0"))
