"""A training state goes on as if nothing had happened: on the same ranks bit for bit, on fewer to
1e-6."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.fsdp_roles import Cut, batch_of, roles
from verl.single_controller.resource_pool import RayResourcePool
from verl.single_controller.worker_group import RayWorkerGroup
from verl.trainer.main_export import main as export
from verl.utils.checkpoints import state_folder

pytestmark = pytest.mark.usefixtures("ray_session")

ROLES = ("actor", "critic")
Outcome = dict[str, Any]


def start(policy_folder: Path, ranks: int) -> RayWorkerGroup:
    made = roles("made", policy_folder, Cut(8))
    return RayWorkerGroup(RayResourcePool([ranks]), {role: made[f"made/{role}"] for role in ROLES})


def update(group: Any, count: int) -> Outcome:
    """Metrics of each update, and the weights after the last."""
    found: Outcome = {}
    for number in range(count):
        batch = batch_of(16)
        batch.batch["advantages"] *= 1 + number
        found[f"actor_{number}"] = group["actor"].update_actor(batch).meta_info["metrics"]
        found[f"critic_{number}"] = group["critic"].update_critic(batch).meta_info["metrics"]
    return found


def weights(group: Any, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    for role in ROLES:
        group[role].save_checkpoint(str(folder / role))
    return {role: load_file(folder / role / "model.safetensors") for role in ROLES}


def load(group: Any, checkpoint: Path) -> None:
    for role in ROLES:
        group[role].load_state(str(state_folder(checkpoint, role)))


@pytest.fixture(scope="module")
def two_ranks(policy_folder: Path, ray_session: None) -> Iterator[Any]:  # noqa: ARG001
    group = start(policy_folder, 2)
    yield group
    group.shutdown()


def test_a_state_goes_on_on_two_ranks_and_on_one(
    two_ranks: Any, policy_folder: Path, tmp_path: Path
) -> None:
    saved, group = tmp_path / "global_step_2", two_ranks
    update(group, 2)
    for role in ROLES:
        group[role].begin_save(str(state_folder(saved, role)), str(saved / role))
    straight = update(group, 2)  # while the state is written
    for role in ROLES:
        assert group[role].finish_save() == [None, None]
    after = weights(group, tmp_path / "straight")
    load(group, saved)
    assert update(group, 2) == straight
    again = weights(group, tmp_path / "again")
    load(group, saved)
    at_the_save = weights(group, tmp_path / "at_the_save")
    for role in ROLES:
        exported = load_file(saved / role / "model.safetensors")
        assert exported.keys() == at_the_save[role].keys()
        for name, value in after[role].items():
            assert torch.equal(again[role][name], value), name
            assert torch.equal(exported[name], at_the_save[role][name]), name
            assert name == "score.bias" or not torch.equal(exported[name], value), name
    group = start(policy_folder, 1)
    try:
        load(group, saved)
        update(group, 2)
        alone = weights(group, tmp_path / "alone")
    finally:
        group.shutdown()
    for role in ROLES:
        for name, value in after[role].items():
            assert (alone[role][name] - value).abs().max() < 1e-6, name
    export([str(saved), str(tmp_path / "critic"), "--role", "critic"])
    files = sorted(path.name for path in (saved / "critic").iterdir())
    assert sorted(path.name for path in (tmp_path / "critic").iterdir()) == files
    assert (tmp_path / "critic" / "model.safetensors").read_bytes() == (
        saved / "critic" / "model.safetensors"
    ).read_bytes()


def test_a_rank_that_cannot_write_is_told_of_by_all(two_ranks: Any, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    actor = two_ranks["actor"]
    actor.begin_save(str(tmp_path / "state"), None)
    assert all("File exists" in error for error in actor.finish_save())
    actor.begin_save(str(tmp_path / "other"), None)
    assert actor.finish_save() == [None, None], "the next may succeed"
