"""An algorithm is a file: adding one makes its name valid, deleting it makes that an error."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import verl.algorithms
from verl.algorithms import find_algorithm
from verl.config.model import ActorConfig
from verl.config.ppo import ActorRolloutRefConfig, AlgorithmConfig, DataConfig, PPOConfig
from verl.config.rollout import RolloutConfig
from verl.config.validation import ConfigError
from verl.protocol import DataProto
from verl.trainer.ppo.advantage import add_advantages
from verl.trainer.ppo.workers import Roles

_CENTRED = '''
"""Rewards less their mean."""
import torch
from verl.algorithms.base import Advantages, Algorithm, TokenLosses

def _advantages(batch, config):
    scores = batch.token_level_rewards.sum(dim=-1)
    centred = (scores - scores.mean()).unsqueeze(-1) * batch.response_mask
    return Advantages(centred, centred)

def _sequence_loss(tokens, config):
    """One ratio a trajectory: the mean log-ratio of its sampled tokens."""
    log_ratio = (tokens.log_prob - tokens.old_log_prob) * tokens.response_mask
    rows = int(tokens.sample.max()) + 1
    total = torch.zeros(rows).index_add(0, tokens.sample, log_ratio)
    count = torch.zeros(rows).index_add(0, tokens.sample, tokens.response_mask)
    ratio = (total / count.clamp(min=1)).exp()[tokens.sample]
    return TokenLosses(-tokens.advantages * ratio, torch.zeros_like(ratio), -log_ratio)

ALGORITHM = Algorithm(_advantages, _sequence_loss, needs_groups=True, kl_in_loss=True)
'''


@pytest.fixture
def extra_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A second folder of the package, so that the tests write nothing into the first."""
    monkeypatch.setattr(verl.algorithms, "__path__", [*verl.algorithms.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("verl.algorithms.centred", None)
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
    with pytest.raises(ConfigError, match=r"centred.*choose one of: gae, grpo"):
        AlgorithmConfig(adv_estimator="centred")
    (extra_folder / "centred.py").write_text(_CENTRED)
    with pytest.raises(ConfigError, match=r"centred compares samples of one prompt.*n_agent"):
        _config("centred", n_agent=1)
    config = _config("centred", n_agent=2)
    assert Roles.of(config) == Roles(critic=False, reference=True, kl_in_reward=False, groups=True)
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
    with pytest.raises(ConfigError, match=r"centred.*choose one of: gae, grpo$"):
        AlgorithmConfig(adv_estimator="centred")


@pytest.mark.parametrize("name", ["base", "losses", "maths", "kl", "__init__", "../gae", ""])
def test_other_files_are_no_algorithms(name: str) -> None:
    with pytest.raises(ConfigError, match=r"choose one of: gae, grpo$"):
        AlgorithmConfig(adv_estimator=name)


def test_the_two_bring_what_they_need() -> None:
    gae, grpo = find_algorithm("gae"), find_algorithm("grpo")
    assert (gae.needs_critic, gae.needs_groups, gae.kl_in_loss) == (True, False, False)
    assert (grpo.needs_critic, grpo.needs_groups, grpo.kl_in_loss) == (False, True, True)
    assert gae.policy_loss is grpo.policy_loss
    assert ActorConfig().clip_ratio == 0.2
