"""The update does not depend on how the batch is cut: micro-batches, padding, packing, ranks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig

from router_r1.world.config import PolicySize
from tests.fsdp_roles import (
    LEARNING_RATE,
    Cut,
    batch_of,
    gradient_roles,
    roles,
    trajectories,
)
from verl.config.model import ActorConfig, ModelConfig, ReferenceConfig
from verl.single_controller.resource_pool import RayResourcePool
from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup
from verl.trainer.ppo.update import mini_batches
from verl.workers.fsdp.actor import ActorWorker, ReferenceWorker

pytestmark = pytest.mark.usefixtures("ray_session")
UNFELT = 1e-30
TRAINED = ("actor", "by_trajectory", "adapted", "critic")
# Each differs from the first in one thing, on one rank; on more they differ in several.
ONE_RANK = {
    "whole": Cut(16),
    "micro-batches of 5": Cut(5),
    "packed": Cut(16, packed=True),
    "checkpointing": Cut(16, checkpointing=True),
}
TWO_RANKS = {
    "two ranks": Cut(16),
    "two ranks, by tokens, packed": Cut(None, packed=True),
    "two ranks, by tokens, checkpointing": Cut(None, checkpointing=True),
}
FOUR_RANKS = {
    "four ranks": Cut(16),
    "four ranks, packed, checkpointing": Cut(3, packed=True, checkpointing=True),
}
CUTS = (*ONE_RANK, *TWO_RANKS, *FOUR_RANKS)

# The roles of all tests share their ranks' processes: what a process imports takes seconds.


@pytest.fixture(scope="module")
def one_rank(
    policy_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RayWorkerGroup]:
    """Roles that update, roles whose updates move no weight, and one of a contradictory folder."""
    folder = tmp_path_factory.mktemp("contradictory") / "policy"
    shutil.copytree(policy_folder, folder)
    written = {"do_sample": False, "temperature": 0.7, "eos_token_id": [257, 259]}
    (folder / "generation_config.json").write_text(json.dumps(written))
    contradictory = RayClassWithInit(
        ActorWorker, Cut(16).model_config(folder), ActorConfig(), 1.0, 10
    )
    group = RayWorkerGroup(
        RayResourcePool([1]),
        {
            **roles("plain", policy_folder, Cut(16)),
            **roles("still", policy_folder, Cut(2), learning_rate=UNFELT),
            **gradient_roles(policy_folder, ONE_RANK),
            "contradictory": contradictory,
        },
    )
    yield group
    group.shutdown()


@pytest.fixture(scope="module")
def two_ranks(policy_folder: Path) -> Iterator[RayWorkerGroup]:
    """Likewise; others that a test poisons, and two in bfloat16 below temperature one."""
    half, actor = ModelConfig(path=str(policy_folder), dtype="bfloat16"), ActorConfig()
    group = RayWorkerGroup(
        RayResourcePool([2]),
        {
            **roles("thirds", policy_folder, Cut(3)),
            **roles("still", policy_folder, Cut(4), learning_rate=UNFELT),
            **roles("poisoned", policy_folder, Cut(4)),
            **gradient_roles(policy_folder, TWO_RANKS),
            "half/actor": RayClassWithInit(ActorWorker, half, actor, 0.7, 10),
            "half/reference": RayClassWithInit(
                ReferenceWorker, half, actor, ReferenceConfig(), 0.7
            ),
        },
    )
    yield group
    group.shutdown()


def one_update(group: RayWorkerGroup, name: str, output: Path) -> dict[str, Any]:
    actor, by_trajectory, adapted, critic, reference = (
        group[f"{name}/{role}"]
        for role in ("actor", "by_trajectory", "adapted", "critic", "reference")
    )
    batch = batch_of(16)
    result = {
        "log_probs": actor.compute_log_probs(batch).batch["old_log_probs"],
        "ref": reference.compute_ref_log_probs(batch).batch["ref_log_prob"],
        "values": critic.compute_values(batch).batch["values"],
        "actor": actor.update_actor(batch).meta_info["metrics"],
        "by_trajectory": by_trajectory.update_actor(batch).meta_info["metrics"],
        "adapted": adapted.update_actor(batch).meta_info["metrics"],
        "unadapted": adapted.compute_ref_log_probs(batch).batch["ref_log_prob"],
        "critic": critic.update_critic(batch).meta_info["metrics"],
    }
    for role in TRAINED:
        group[f"{name}/{role}"].save_checkpoint(str(output / role))
        result[f"{role}_weights"] = load_file(output / role / "model.safetensors")
    return result


Gradients = dict[str, dict[str, torch.Tensor]]


def gradients_of(group: RayWorkerGroup, cuts: Iterable[str]) -> Gradients:
    """Of the same mini-batch, by cut and parameter."""
    found = {}
    for name in cuts:
        group[name].update_actor(batch_of(16))
        found[name] = group[name].gradients()[0]
    return found


@pytest.fixture(scope="module")
def four_ranks(
    policy_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Gradients]:
    """What they make of an update, and gradients; four are all that Ray has room for."""
    cut = Cut(None, packed=True, checkpointing=True)
    made = roles("packed", policy_folder, cut) | gradient_roles(policy_folder, FOUR_RANKS)
    group = RayWorkerGroup(RayResourcePool([4]), made)
    try:
        update = one_update(group, "packed", tmp_path_factory.mktemp("packed"))
        return update, gradients_of(group, FOUR_RANKS)
    finally:
        group.shutdown()


@pytest.fixture(scope="module")
def gradients(
    four_ranks: tuple[dict[str, Any], Gradients],
    one_rank: RayWorkerGroup,
    two_ranks: RayWorkerGroup,
) -> Gradients:
    _, of_four = four_ranks
    return gradients_of(one_rank, ONE_RANK) | gradients_of(two_ranks, TWO_RANKS) | of_four


@pytest.mark.parametrize("cut", CUTS[1:])
def test_every_parameters_gradient_is_the_same(gradients: Gradients, cut: str) -> None:
    whole = gradients[CUTS[0]]
    assert whole.keys() == gradients[cut].keys()
    length = torch.stack([gradient.norm() for gradient in whole.values()]).norm()
    for name, gradient in whole.items():
        # Attention does not feel a bias of its keys: that gradient is rounding.
        felt = max(gradient.norm(), 1e-3 * length)
        assert (gradients[cut][name] - gradient).norm() < 1e-5 * felt, name


@pytest.fixture(scope="module")
def updates(
    four_ranks: tuple[dict[str, Any], Gradients],
    one_rank: RayWorkerGroup,
    two_ranks: RayWorkerGroup,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[dict[str, Any]]:
    return [
        one_update(one_rank, "plain", tmp_path_factory.mktemp("plain")),
        one_update(two_ranks, "thirds", tmp_path_factory.mktemp("thirds")),
        four_ranks[0],
    ]


@pytest.mark.parametrize("other", [1, 2], ids=["2 ranks, micro-batches of 3", "4 ranks, packed"])
def test_world_size_micro_batches_packing_and_padding_change_nothing(
    updates: list[dict[str, Any]], other: int
) -> None:
    one, two = updates[0], updates[other]
    mask = batch_of(16).batch["response_mask"].bool()
    assert torch.equal(two["unadapted"], two["ref"])
    for name in ("log_probs", "ref", "values"):
        assert (one[name][mask] - two[name][mask]).abs().max() < 1e-5, name
    assert one["actor"]["actor/pg_loss"] != one["by_trajectory"]["actor/pg_loss"]
    for role in TRAINED:
        norm = f"{'critic' if role == 'critic' else 'actor'}/grad_norm"
        assert one[role][norm] > 0.01
        assert one[role][norm] == pytest.approx(two[role][norm], rel=1e-5)
        for metric, value in one[role].items():
            assert value == pytest.approx(two[role][metric], rel=1e-4, abs=1e-6), metric
        for name, weight in one[f"{role}_weights"].items():
            # AdamW's first step is lr * sign(gradient), but for gradients near its epsilon.
            difference = (weight - two[f"{role}_weights"][name]).abs().mean()
            assert difference < 1e-3 * LEARNING_RATE, name


def test_a_step_moves_every_weight_and_is_saved_for_hugging_face(
    updates: list[dict[str, Any]], policy_folder: Path
) -> None:
    before = AutoModelForCausalLM.from_pretrained(policy_folder).state_dict()
    after = updates[0]["actor_weights"]
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert len(moved) >= len(after) - 1
    merged = updates[0]["adapted_weights"]
    moved = [name for name in merged if not torch.equal(merged[name], before[name])]
    assert moved == [name for name in merged if name.endswith("_proj.weight")]


def test_log_probs_are_hugging_faces_own(
    updates: list[dict[str, Any]], policy_folder: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy_folder)
    batch = batch_of(16)
    assert batch.batch is not None
    width = batch.batch["responses"].shape[1]
    for row, trajectory in enumerate(trajectories(16)):
        ids = torch.tensor([trajectory.token_ids])
        with torch.no_grad():
            log_probs = model(ids).logits[0].log_softmax(-1)
        chosen = log_probs[:-1].gather(-1, ids[0, 1:, None]).squeeze(-1)
        prompt = len(trajectory.segments[0].token_ids)
        expected = chosen[prompt - 1 :]
        got = updates[0]["log_probs"][row][: len(expected)]
        assert (got - expected).abs().max() < 1e-5
        assert len(expected) <= width


def test_actor_and_reference_agree_on_bfloat16_logits_below_temperature_one(
    two_ranks: RayWorkerGroup,
) -> None:
    batch = batch_of(8)
    trained = two_ranks["half/actor"].compute_log_probs(batch).batch["old_log_probs"]
    frozen = two_ranks["half/reference"].compute_ref_log_probs(batch).batch["ref_log_prob"]
    assert trained.any()
    assert torch.equal(trained, frozen)


def test_observation_tokens_have_no_say_in_the_loss(two_ranks: RayWorkerGroup) -> None:
    """Advantages and old log-probs on observations may be anything, even infinite."""
    actor = two_ranks["still/actor"]
    batch = batch_of(8)
    assert batch.batch is not None
    observed = ~batch.batch["response_mask"].bool()
    clean = actor.update_actor(batch).meta_info["metrics"]
    for name in ("advantages", "old_log_probs", "ref_log_prob"):
        batch.batch[name][observed] = 1e6
    dirty = actor.update_actor(batch).meta_info["metrics"]
    assert clean["actor/grad_norm"] > 0.01
    assert without_lr(dirty) == without_lr(clean)


def without_lr(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith("/lr")}


def test_a_mini_batch_that_does_not_split_over_the_ranks_counts_each_sample_once(
    one_rank: RayWorkerGroup, two_ranks: RayWorkerGroup
) -> None:
    """Five samples: on one rank as they are, on two filled up with a silent sixth."""
    metrics = []
    for ranks, group in ((1, one_rank), (2, two_ranks)):
        (part,) = mini_batches(batch_of(16)[:5], 8, 1, False, np.random.default_rng(0), ranks)
        assert len(part) == {1: 5, 2: 6}[ranks]
        metrics.append(
            group["still/actor"].update_actor(part).meta_info["metrics"]
            | group["still/critic"].update_critic(part).meta_info["metrics"]
        )
    assert metrics[0]["actor/grad_norm"] > 0.01
    for name, value in without_lr(metrics[0]).items():
        assert value == pytest.approx(metrics[1][name], rel=1e-4, abs=1e-6), name


def test_a_poisoned_batch_changes_nothing(two_ranks: RayWorkerGroup) -> None:
    actor, critic = two_ranks["poisoned/actor"], two_ranks["poisoned/critic"]
    batch = batch_of(8)
    assert batch.batch is not None

    def outputs() -> tuple[torch.Tensor, torch.Tensor]:
        scored = actor.compute_log_probs(batch).batch["old_log_probs"]
        return scored, critic.compute_values(batch).batch["values"]

    before = outputs()
    for name in ("advantages", "returns"):
        batch.batch[name][0] = float("nan")
    assert actor.update_actor(batch).meta_info["metrics"]["actor/nonfinite_steps"] == 1.0
    assert critic.update_critic(batch).meta_info["metrics"]["critic/nonfinite_steps"] == 1.0
    assert all(torch.equal(one, other) for one, other in zip(before, outputs(), strict=True))


def test_a_policy_whose_generation_config_contradicts_itself_can_be_saved(
    one_rank: RayWorkerGroup, tmp_path: Path
) -> None:
    one_rank["contradictory"].save_checkpoint(str(tmp_path / "saved"))
    saved = GenerationConfig.from_pretrained(tmp_path / "saved")
    assert (saved.eos_token_id, saved.temperature) == ([257, 259], None)


def test_policy_size_is_small_enough_for_a_laptop(policy_folder: Path) -> None:
    weights = load_file(policy_folder / "model.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) < 3e6
    assert PolicySize().hidden_size // PolicySize().num_attention_heads >= 32
