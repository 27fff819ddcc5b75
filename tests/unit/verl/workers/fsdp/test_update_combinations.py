"""A worker's step of any combination has the gradient that the formulas have through transformers'
own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.families import create_family
from tests.fsdp_roles import Cut, GradientActor, batch_of
from tests.reference_update import (
    ADVANTAGES,
    LOSSES,
    REWARD_KL,
    Columns,
    combinations_of,
    reference_loss,
)
from verl.algorithms.kl import FixedKLController
from verl.config.model import OptimConfig
from verl.protocol import DataProto
from verl.single_controller.worker import RankInfo
from verl.trainer.ppo.advantage import add_advantages, add_rollout_weights, apply_kl_penalty

ROWS, LOSS_KL, UNFELT = 4, 0.2, 1e-30
# Adam's first moment is then the gradient of the step before.
OPTIM = OptimConfig(lr=UNFELT, betas=[0.0, 0.999], weight_decay=0.0, grad_clip=1e9)


def scored(columns: Columns, log_probs: torch.Tensor) -> Columns:
    """With scores, and log-probs that differ a little from the policy's."""
    generator = torch.Generator().manual_seed(6)

    def noise(scale: float) -> torch.Tensor:
        return scale * torch.randn(columns["response_mask"].shape, generator=generator)

    old = log_probs + noise(0.3)
    return columns | {
        "token_level_scores": noise(1.0) * columns["response_mask"],
        "greedy_scores": noise(1.0)[:, 0],
        "old_log_probs": old,
        "rollout_log_probs": old + noise(0.05),
        "ref_log_prob": old + noise(0.1),
    }


def transformers_log_probs(model: Any, columns: Columns) -> torch.Tensor:
    """(B, R), with a graph; 0 where nothing stands."""
    width = columns["responses"].shape[1]
    mask = columns["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(columns["input_ids"], attention_mask=mask, position_ids=positions).logits
    chosen = logits[:, :-1].log_softmax(-1).gather(-1, columns["input_ids"][:, 1:, None])
    return chosen.squeeze(-1)[:, -width:] * mask[:, -width:]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_of_every_combination_is_transformers_own(
    tokenizer: PreTrainedTokenizerFast, single_rank: RankInfo, tmp_path: Path, loss: str
) -> None:
    folder = create_family("qwen2", tokenizer, tmp_path / "model")
    made = batch_of(ROWS).batch
    assert made is not None
    made = {name: values for name, values in made.items() if name != "rollout_weights"}
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    parameters = dict(model.named_parameters())
    x = transformers_log_probs(model, made)
    columns = scored(made, x.detach())
    workers: dict[str, GradientActor] = {}
    for estimator in ADVANTAGES:
        for how in combinations_of(estimator, loss):
            if how.mode not in workers:
                config = how.actor(
                    use_kl_loss=True, kl_loss_coef=LOSS_KL, ppo_micro_batch_size=3, optim=OPTIM
                )
                workers[how.mode] = GradientActor(
                    single_rank, Cut(3).model_config(folder), config, 1.0, 10
                )
            batch = DataProto.from_dict(columns, {"uid": [i // 2 for i in range(ROWS)]})
            add_rollout_weights(batch, how.algorithm)
            apply_kl_penalty(batch, FixedKLController(REWARD_KL), "kl")
            add_advantages(batch, how.algorithm)
            metrics = workers[how.mode].update_actor(batch).meta_info["metrics"]
            found = workers[how.mode].gradients()
            expected = torch.autograd.grad(
                reference_loss(columns, x, how, LOSS_KL), parameters.values(), retain_graph=True
            )
            length = torch.stack([slope.norm() for slope in expected]).norm()
            assert metrics["actor/grad_norm"] == pytest.approx(float(length), rel=1e-5), how
            for name, slope in zip(parameters, expected, strict=True):
                felt = max(slope.norm(), 1e-3 * length)
                assert (found[f"pretrained.{name}"] - slope).norm() < 1e-4 * felt, (how, name)
