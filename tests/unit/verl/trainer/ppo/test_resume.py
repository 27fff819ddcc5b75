"""When a run goes on from a checkpoint, and when it says that it does not."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from verl.algorithms.kl import AdaptiveKLController, FixedKLController
from verl.config.ppo import TrainerConfig
from verl.task import ValidationResult
from verl.trainer.ppo.resume import ResumeError, differences, find_start
from verl.trainer.ppo.run_state import KLCoefficient, RunIdentity, RunState
from verl.utils.checkpoints import Checkpoint, step_folder

CONFIG: dict[str, Any] = {
    "cost_coe": 0.0,
    "pool": {"name": "p", "budget_usd": None, "llms": [{"name": "A", "prompt_price": 1.0}]},
    "actor_rollout_ref": {
        "actor": {"optim": {"lr": 1e-6}, "fsdp_config": {"param_offload": True}},
        "rollout": {"temperature": 1.0, "num_replicas": -1},
    },
    "trainer": {"seed": 42, "save_freq": 5, "n_gpus_per_node": 4, "total_training_steps": 40},
}
RUN = RunIdentity(CONFIG, 40, 100)
FREE = ("pool.budget_usd",)  # of the task's


def changed(key: str, value: Any) -> RunIdentity:
    config = copy.deepcopy(CONFIG)
    *groups, name = key.split(".")
    owner = config
    for group in groups:
        owner = owner[group]
    owner[name] = value
    return replace(RUN, config=config)


def validated(step: int) -> ValidationResult:
    return ValidationResult(step, np.array(["a"], dtype=object), {"reward": np.array([0.1])})


def leave(folder: Path, step: int, identity: RunIdentity = RUN, whole: bool = True) -> Path:
    checkpoint = step_folder(folder, step)
    (checkpoint / "state" / "actor").mkdir(parents=True)
    last = validated(step if whole else 0)
    (checkpoint / "run.json").write_text(RunState(step, identity, {}, last=last).to_text())
    return checkpoint


def start(folder: Path, identity: RunIdentity = RUN, resume: str = "auto") -> Path | None:
    trainer = TrainerConfig(default_local_dir=str(folder), resume=resume)
    found = find_start(trainer, identity, FREE)
    return None if found is None else found.folder


def test_auto_takes_the_newest_checkpoint_that_one_can_go_on_from(tmp_path: Path) -> None:
    assert start(tmp_path) is None
    leave(tmp_path, 5)
    newest = leave(tmp_path, 10)
    (step_folder(tmp_path, 15) / "actor").mkdir(parents=True)
    assert start(tmp_path) == newest
    assert start(tmp_path, resume="never") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.total_training_steps", 80),
        ("trainer.save_freq", 1),
        ("trainer.n_gpus_per_node", 2),
        ("actor_rollout_ref.rollout.num_replicas", 3),
        ("actor_rollout_ref.actor.fsdp_config.param_offload", False),
        ("pool.budget_usd", 5.0),
    ],
)
def test_how_long_and_where_a_run_trains_may_change(tmp_path: Path, key: str, value: Any) -> None:
    newest = leave(tmp_path, 10)
    assert start(tmp_path, changed(key, value)) == newest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cost_coe", 0.9),
        ("trainer.seed", 1),
        ("actor_rollout_ref.rollout.temperature", 0.7),
        ("actor_rollout_ref.actor.optim.lr", 1e-5),
        ("pool.llms", [{"name": "A", "prompt_price": 2.0}]),
        ("pool.llms", []),
    ],
)
def test_another_run_is_refused_and_the_difference_named(
    tmp_path: Path, key: str, value: Any
) -> None:
    leave(tmp_path, 10)
    with pytest.raises(ResumeError) as caught:
        start(tmp_path, changed(key, value))
    assert key in str(caught.value)
    assert "trainer.resume=never" in str(caught.value)
    assert start(tmp_path, changed(key, value), resume="never") is None


@pytest.mark.parametrize(
    ("then", "now", "words"),
    [
        (0.3, [0, 0.3], "cost_coe was 0.3, is length=2, 0=0, 1=0.3"),
        ([0, 0.3], "0..0.9", "cost_coe was length=2, 0=0, 1=0.3, is '0..0.9'"),
        (None, {"size": 3}, "cost_coe was None, is size=3"),
    ],
)
def test_a_value_that_becomes_a_list_or_a_group_is_a_difference(
    then: Any, now: Any, words: str
) -> None:
    found = differences(changed("cost_coe", then), changed("cost_coe", now))
    assert words in found


def test_other_data_is_another_run() -> None:
    (found,) = differences(RUN, replace(RUN, train_rows=99))
    assert "100 rows" in found
    assert "99" in found


def test_a_run_at_its_end_is_followed_by_a_new_one_unless_it_grows(tmp_path: Path) -> None:
    newest = leave(tmp_path, 40)
    assert start(tmp_path) is None
    assert start(tmp_path, changed("cost_coe", 0.9)) is None
    assert start(tmp_path, replace(RUN, total_steps=50)) == newest


def test_a_run_does_not_get_shorter_than_it_is(tmp_path: Path) -> None:
    leave(tmp_path, 45, replace(RUN, total_steps=60))
    with pytest.raises(ResumeError, match="a run of 45 steps, and this one is to have 40"):
        start(tmp_path, replace(RUN, total_steps=40))


def test_a_run_that_lacks_its_last_validation_alone_goes_on(tmp_path: Path) -> None:
    newest = leave(tmp_path, 40, whole=False)
    assert start(tmp_path) == newest


def test_a_named_folder_is_gone_on_from_and_what_differs_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, newest = leave(tmp_path, 5), leave(tmp_path, 10)
    with caplog.at_level(logging.WARNING):
        assert start(tmp_path, changed("cost_coe", 0.9), resume=str(first)) == first
    assert "cost_coe was 0.0, is 0.9" in caplog.text
    assert start(tmp_path / "elsewhere", resume=str(tmp_path)) == newest
    with pytest.raises(ResumeError, match="nowhere"):
        start(tmp_path, resume=str(tmp_path / "nowhere"))


def test_a_state_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    parts = {"rows": {"drawn": 3}, "streams": {"order": {"state": 2**100}}}
    metrics = {"loss": 0.1 + 0.2, "norm": float("inf")}
    state = RunState(7, RUN, parts, metrics, 1.5, {"wandb": "id"}, None, validated(7))
    folder = step_folder(tmp_path, 7)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(state.to_text())
    back = RunState.from_json(Checkpoint(7, folder).read_run_state())
    assert (back.step, back.identity, back.parts) == (7, RUN, parts)
    assert (back.metrics, back.seconds, back.trackers) == (metrics, 1.5, {"wandb": "id"})
    assert back.first is None
    assert back.last is not None
    assert back.last.columns["reward"][0] == 0.1
    assert back.moment == state.moment


def test_an_adaptive_kl_coefficient_goes_on_and_a_fixed_one_is_the_configurations() -> None:
    moved = AdaptiveKLController(0.1, target_kl=0.01, horizon=100)
    moved.update(current_kl=0.05, n_steps=10)
    state = KLCoefficient(moved).state_dict()
    adaptive, fixed = AdaptiveKLController(0.1, 0.01, 100), FixedKLController(0.3)
    for controller in (adaptive, fixed):
        KLCoefficient(controller).load_state_dict(state)
    assert (adaptive.value, fixed.value) == (pytest.approx(0.1 * 1.02), 0.3)
