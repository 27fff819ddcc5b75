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
from verl.algorithms.policy_losses import find_policy_loss
from verl.config.algorithm import AlgorithmConfig, RolloutCorrectionConfig
from verl.config.model import AGGREGATIONS, ActorConfig
from verl.protocol import DataProto
from verl.trainer.ppo.advantage import add_advantages, add_rollout_weights

ADVANTAGES = (
    *("gae", "grpo", "dr_grpo", "rloo"),
    *("reinforce_plus_plus", "reinforce_plus_plus_baseline", "remax"),
)
LOSSES = ("clip", "gspo", "cispo")
CORRECTIONS = ((None, "truncate"), *itertools.product(("token", "sequence"), ("truncate", "mask")))
LOW, HIGH, DUAL, GAMMA, LAM, HORIZON = 0.1, 0.2, 1.5, 0.9, 0.8, 17
UPPER, LOWER = 1.1, 0.9


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
        "token_level_rewards": noise() * mask,
        "values": noise(),
        "greedy_scores": noise()[:, 0],
        "response_mask": mask,
        "log_prob": log_prob,
        "old_log_probs": old,
        "rollout_log_probs": old + noise(0.1),
        "ref_log_prob": old + noise(0.1),
    }


# The loss and its gradient, written down from the papers' formulas, row by row.
def _reference(
    c: dict[str, torch.Tensor], estimator: str, loss: str, mode: str, level: Any, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    rows, score = (
        [m.nonzero().flatten() for m in c["response_mask"]],
        c["token_level_rewards"].sum(1),
    )
    made = []
    for i, t in enumerate(rows):
        r, mates = c["token_level_rewards"][i, t], score[i // 2 * 2 : i // 2 * 2 + 2]
        value = torch.cat([c["values"][i, t], torch.zeros(1)])
        steps = (torch.arange(len(t)) - torch.arange(len(t))[:, None]).abs()
        forms = {
            "gae": torch.triu((GAMMA * LAM) ** steps) @ (r + GAMMA * value[1:] - value[:-1]),
            "grpo": (score[i] - mates.mean()) / (mates.std() + 1e-6),
            "rloo": 2 * score[i] - mates.sum(),
            "reinforce_plus_plus": torch.triu(GAMMA**steps) @ r,
            "remax": torch.triu(1.0**steps) @ r - c["greedy_scores"][i],
        }
        made.append(forms.get(estimator, score[i] - mates.mean()).expand(len(t)))
    if estimator in ("gae", "reinforce_plus_plus", "reinforce_plus_plus_baseline"):
        flat = torch.cat(made)
        made = [(a - flat.mean()) / (flat.var() + 1e-8).sqrt() for a in made]
    x, told = c["log_prob"].clone().requires_grad_(), []
    for i in (i for i, t in enumerate(rows) if len(t)):
        a, p, old = made[i], x[i, rows[i]], c["old_log_probs"][i, rows[i]]
        s = ((p - old).mean() - p).detach() + p if loss == "gspo" else p - old
        ratio, clipped = s.exp(), s.exp().clamp(1 - LOW, 1 + HIGH)
        token = torch.maximum(-a * ratio, -a * clipped)
        if loss != "gspo":
            dual = torch.where(a < 0, torch.minimum(token, -a * DUAL), token)
            token = dual if loss == "clip" else -clipped.detach() * a * p
        gap = old - c["rollout_log_probs"][i, rows[i]]
        w = gap.exp() if level == "token" else gap.sum().exp().expand_as(gap)
        w = w.clamp(max=UPPER) if kind == "truncate" else w * ((w >= LOWER) & (w <= UPPER))
        told.append(token * w if level else token)
    count = {"token-mean": len(torch.cat(told)), "seq-mean-token-sum-norm": len(told) * HORIZON}
    per_row = [row.mean() if mode == "seq-mean-token-mean" else row.sum() for row in told]
    total = torch.stack(per_row).sum() / count.get(mode, len(told))
    return total.detach(), torch.autograd.grad(total, x)[0]


def _config(loss: str, mode: str, **more: Any) -> ActorConfig:
    return ActorConfig(
        policy_loss=loss,
        clip_ratio_low=LOW,
        clip_ratio_high=HIGH,
        clip_ratio_c=DUAL if loss == "clip" else None,
        loss_agg_mode=mode,
        loss_agg_horizon=HORIZON if mode.endswith("norm") else None,
        **{"entropy_coeff": 0.0, **more},
    )


@pytest.mark.parametrize(("estimator", "loss"), itertools.product(ADVANTAGES, LOSSES))
def test_every_combination_is_what_the_formulas_say(estimator: str, loss: str) -> None:
    for mode, (level, kind) in itertools.product(AGGREGATIONS, CORRECTIONS):
        batch = DataProto.from_dict(_batch(seed=5), {"uid": [i // 2 for i in range(8)]})
        algorithm = AlgorithmConfig(
            adv_estimator=estimator,
            gamma=GAMMA,
            lam=LAM,
            rollout_correction=RolloutCorrectionConfig(level, kind, UPPER, LOWER),
        )
        metrics = add_rollout_weights(batch, algorithm)
        add_advantages(batch, algorithm)
        assert batch.batch is not None
        columns = dict(batch.batch.items())
        cut = [[4, 1], [], [7, 0, 2], [6], [3, 5]]
        loss_value, gradient, _ = loss_and_gradient(columns, _config(loss, mode), cut)
        expected = _reference(_batch(seed=5), estimator, loss, mode, level, kind)
        where = f"{mode}, {level}, {kind}"
        torch.testing.assert_close(loss_value, expected[0], atol=1e-10, rtol=0, msg=where)
        torch.testing.assert_close(gradient, expected[1], atol=1e-10, rtol=0, msg=where)
        assert bool(metrics) == (level is not None)


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
    columns["advantages"] = columns["token_level_rewards"]
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
