"""A root configuration of one's own, and what it may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from verl.config.ppo import PPOConfig
from verl.config.validation import ConfigError
from verl.task import Task
from verl.trainer.launch import load_task_config

_ROOT = f"""
defaults: [size: small, _self_]
task: {{_target_: {__name__}.OwnTask}}
data: {{train_files: [a.parquet], val_files: [b.parquet]}}
actor_rollout_ref: {{model: {{path: some/model}}}}
"""


class OwnTask(Task):
    """Is looked up by name; nothing of it is called."""


@pytest.fixture
def root(tmp_path: Path) -> list[str]:
    """Arguments that choose a root outside the repository's configs, with a group beside it."""
    (tmp_path / "size").mkdir()
    small = "# @package _global_\ndata: {train_batch_size: 32}\n"
    (tmp_path / "size" / "small.yaml").write_text(small)
    (tmp_path / "mine.yaml").write_text(_ROOT)
    return ["--config-dir", str(tmp_path), "--config-name=mine"]


def test_a_root_of_ones_own_builds_on_the_frameworks(root: list[str]) -> None:
    task_class, config = load_task_config([*root, "trainer.seed=3", "size=small"])
    assert task_class is OwnTask
    assert type(config) is PPOConfig
    assert (config.trainer.seed, config.data.train_batch_size) == (3, 32)
    assert config.critic.model.path == "some/model"


def test_the_frameworks_root_knows_no_key_of_another_task(root: list[str]) -> None:
    with pytest.raises(ConfigError, match="unknown config key 'max_turns'"):
        load_task_config([*root, "max_turns=3"])


def test_an_unknown_option_is_refused(root: list[str]) -> None:
    with pytest.raises(ConfigError, match="unknown option --config-nam"):
        load_task_config([*root, "--config-nam", "mine"])
