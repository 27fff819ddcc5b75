"""An algorithm is a file: adding one makes its name valid, deleting it makes that an error."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import verl.algorithms
import verl.algorithms.policy_losses
from tests.actor_updates import loss_and_gradient
from verl.algorithms import find_algorithm
from verl.config.model import ActorConfig
from verl.config.ppo import ActorRolloutRefConfig, AlgorithmConfig, DataConfig, PPOConfig
from verl.config.rollout import RolloutConfig
from verl.config.validation import ConfigError
from verl.protocol import DataProto
from verl.trainer.ppo.advantage import add_advantages
from verl.trainer.roles import Roles

_CENTRED = '''
"""Rewards less their mean."""
from verl.algorithms.base import Advantages, Algorithm

def _advantages(batch, config):
    scores = batch.token_level_rewards.sum(dim=-1)
    centred = (scores - scores.mean()).unsqueeze(-1) * batch.response_mask
    return Advantages(centred, centred)

ALGORITHM = Algorithm(_advantages, needs_groups=True, kl_in_loss=True)
'''
_UNCLIPPED = '''
"""The plain policy gradient."""
import torch
from verl.algorithms.policy_losses.base import TokenLosses

def _loss(tokens, config):
    moved = tokens.log_prob - tokens.old_log_prob
    return TokenLosses(-tokens.advantages * moved.exp(), torch.zeros_like(moved), -moved)

POLICY_LOSS = _loss
'''
ALL = "dr_grpo, gae, grpo, reinforce_plus_plus, reinforce_plus_plus_baseline, remax, rloo"


@pytest.fixture
def extra_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A second folder of both packages, so that the tests write nothing into the first."""
    for package in (verl.algorithms, verl.algorithms.policy_losses):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield tmp_path
    for name in ("centred", "policy_losses.unclipped"):
        sys.modules.pop(f"verl.algorithms.{name}", None)
    importlib.invalidate_caches()


def _config(estimator: str, n_agent: int) -> PPOConfig:
    return PPOConfig(
        data=DataConfig(train_files=["t"], val_files=["v"]),
        algorithm=AlgorithmConfig(adv_estimator=estimator),
        actor_rollout_ref=ActorRolloutRefConfig(
            rollout=RolloutConfig(n_agent=n_agent, tensor_model_parallel_size=1)
        ),
    )


def test_a_file_that_is_added_is_an_algorithm(extra_folder: Path) -> None:
    with pytest.raises(ConfigError, match=rf"centred.*choose one of: {ALL}"):
        AlgorithmConfig(adv_estimator="centred")
    (extra_folder / "centred.py").write_text(_CENTRED)
    with pytest.raises(ConfigError, match=r"centred compares samples of one prompt.*n_agent"):
        _config("centred", n_agent=1)
    config = _config("centred", n_agent=2)
    assert Roles.of(config) == Roles(
        critic=False, reference=True, reference_worker=True, kl_in_reward=False, groups=True
    )
    batch = DataProto.from_dict(
        {
            "token_level_rewards": torch.tensor([[0.0, 1.0], [0.0, 0.0]]),
            "response_mask": torch.tensor([[1, 1], [1, 0]]),
        },
        {"uid": ["a", "a"]},
    )
    add_advantages(batch, config.algorithm)
    assert batch.batch is not None
    assert batch.batch["advantages"].tolist() == [[0.5, 0.5], [-0.5, 0.0]]


def test_a_file_that_is_deleted_is_none(extra_folder: Path) -> None:
    path = extra_folder / "centred.py"
    path.write_text(_CENTRED)
    assert find_algorithm("centred").needs_groups
    path.unlink()
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match=rf"centred.*choose one of: {ALL}$"):
        AlgorithmConfig(adv_estimator="centred")


@pytest.mark.parametrize("name", ["base", "losses", "policy_losses", "__init__", "../gae", ""])
def test_other_files_are_no_algorithms(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"choose one of: {ALL}$"):
        AlgorithmConfig(adv_estimator=name)


def test_a_loss_that_is_added_goes_with_any_algorithm(extra_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"actor.policy_loss='unclipped'.*: cispo, clip, gspo$"):
        ActorConfig(policy_loss="unclipped")
    (extra_folder / "unclipped.py").write_text(_UNCLIPPED)
    columns = {
        "log_prob": torch.tensor([[0.5, 0.0]]),
        "old_log_probs": torch.zeros(1, 2),
        "advantages": torch.tensor([[2.0, 1.0]]),
        "response_mask": torch.ones(1, 2),
    }
    config = ActorConfig(policy_loss="unclipped", entropy_coeff=0.0)
    loss, _, _ = loss_and_gradient(columns, config)
    assert loss.item() == pytest.approx(-(2 * math.exp(0.5) + 1) / 2)


@pytest.mark.parametrize(
    ("name", "critic", "groups", "greedy", "in_loss"),
    [
        ("gae", True, False, False, False),
        ("grpo", False, True, False, True),
        ("dr_grpo", False, True, False, True),
        ("rloo", False, True, False, False),
        ("reinforce_plus_plus", False, False, False, False),
        ("reinforce_plus_plus_baseline", False, True, False, True),
        ("remax", False, False, True, False),
    ],
)
def test_each_says_what_it_needs(
    name: str, critic: bool, groups: bool, greedy: bool, in_loss: bool
) -> None:
    found = find_algorithm(name)
    needs = (found.needs_critic, found.needs_groups, found.needs_greedy_baseline, found.kl_in_loss)
    assert needs == (critic, groups, greedy, in_loss)
