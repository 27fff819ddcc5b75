"""Old checkpoints go, the newest stays findable."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from verl.config.ppo import TrainerConfig
from verl.config.saving import KeepBestConfig
from verl.config.validation import ConfigError
from verl.errors import UserError
from verl.trainer.launch import load_task_config
from verl.trainer.run_folder import claim_run_folder
from verl.utils.checkpoints import (
    actor_to_score,
    begin_checkpoint,
    commit_checkpoint,
    find_newest_actor,
    prune_checkpoints,
    step_folder,
)


def make(output_dir: Path, *steps: int) -> None:
    for step in steps:
        actor = step_folder(output_dir, step) / "actor"
        actor.mkdir(parents=True)
        (actor / "config.json").write_text("{}")


def steps_in(output_dir: Path) -> set[int]:
    return {int(p.name.rpartition("_")[2]) for p in (output_dir / "checkpoints").iterdir()}


@pytest.mark.parametrize(
    ("keep", "left"), [(None, {5, 10, 15, 100}), (2, {15, 100}), (1, {100}), (9, {5, 10, 15, 100})]
)
def test_the_oldest_go_by_number_not_by_name(
    tmp_path: Path, keep: int | None, left: set[int]
) -> None:
    make(tmp_path, 5, 10, 15, 100)
    prune_checkpoints(tmp_path, 100, keep)
    assert steps_in(tmp_path) == left
    assert find_newest_actor(tmp_path) == step_folder(tmp_path, 100) / "actor"


def test_an_earlier_runs_later_steps_do_not_push_the_new_one_out(tmp_path: Path) -> None:
    make(tmp_path, 15, 30, 210, 225)
    prune_checkpoints(tmp_path, 30, 1)
    assert steps_in(tmp_path) == {30, 210, 225}


def test_folders_that_are_no_checkpoints_stay(tmp_path: Path) -> None:
    make(tmp_path, 1, 2)
    (tmp_path / "checkpoints" / "global_step_best").mkdir()
    prune_checkpoints(tmp_path, 2, 1)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"global_step_best", "global_step_2"}
    assert find_newest_actor(tmp_path) == step_folder(tmp_path, 2) / "actor"


def test_an_unfinished_checkpoint_is_not_the_newest(tmp_path: Path) -> None:
    make(tmp_path, 1)
    step_folder(tmp_path, 2).mkdir()
    assert find_newest_actor(tmp_path) == step_folder(tmp_path, 1) / "actor"
    assert find_newest_actor(tmp_path / "elsewhere") is None


# Writes or removes a checkpoint of many files; says so and goes on until it is killed.
KILLED = """
import sys
from pathlib import Path
from verl.utils.checkpoints import begin_checkpoint, commit_checkpoint, prune_checkpoints

folder = Path(sys.argv[1])

def pause(event, args):
    if event == sys.argv[2] and "file_300" in str(args[0]):
        print("now", flush=True)
        sys.stdin.read()

if sys.argv[2] == "os.remove":
    sys.addaudithook(pause)
    prune_checkpoints(folder, 2, 1)
else:
    partial = begin_checkpoint(folder, 3)
    (partial / "actor").mkdir()
    (partial / "actor" / "config.json").write_text("{}")
    sys.addaudithook(pause)
    for i in range(600):
        (partial / "actor" / f"file_{i}").write_text("x")
    commit_checkpoint(partial)
"""


@pytest.mark.parametrize(("moment", "whole"), [("open", {1, 2}), ("os.remove", {2})])
def test_a_run_that_is_killed_leaves_only_whole_checkpoints_under_their_names(
    tmp_path: Path, moment: str, whole: set[int]
) -> None:
    """SIGKILL while a checkpoint is written, and while an old one is removed."""
    make(tmp_path, 1, 2)
    for i in range(600):
        (step_folder(tmp_path, 1) / f"file_{i}").touch()
    command = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.kill()
    folders = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    (leftover,) = folders - {f"global_step_{step}" for step in whole}
    assert leftover.endswith(".partial")
    assert find_newest_actor(tmp_path) == step_folder(tmp_path, 2) / "actor"
    with claim_run_folder(tmp_path):
        (earlier,) = (tmp_path / "earlier").iterdir()
        assert steps_in(earlier) == whole
        assert find_newest_actor(tmp_path) is None


def save_with(output_dir: Path, metrics: dict[int, dict[str, float]]) -> None:
    """Checkpoints to go on from, each with the metrics of its step."""
    for step, of_step in metrics.items():
        folder = step_folder(output_dir, step)
        (folder / "state" / "actor").mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"metrics": of_step}))


@pytest.mark.parametrize(
    ("mode", "left"), [("max", {5, 40}), ("min", {20, 40})], ids=["highest", "lowest"]
)
def test_the_best_stays_however_old(tmp_path: Path, mode: str, left: set[int]) -> None:
    score = {5: 0.9, 10: math.nan, 20: 0.1, 40: 0.3}
    save_with(tmp_path, {step: {"score": value} for step, value in score.items()})
    prune_checkpoints(tmp_path, 40, 1, KeepBestConfig(metric="score", mode=mode))
    assert steps_in(tmp_path) == left


def test_a_step_without_the_metric_is_not_the_best(tmp_path: Path) -> None:
    save_with(tmp_path, {5: {"val": 0.1}, 10: {"score": 0.9}, 20: {"score": 0.8}})
    prune_checkpoints(tmp_path, 20, 1, KeepBestConfig(metric="val"))
    assert steps_in(tmp_path) == {5, 20}


def test_the_best_is_scored_where_that_is_asked_for(tmp_path: Path) -> None:
    score = {5: 0.9, 10: 0.1, 20: 0.3}
    save_with(tmp_path, {step: {"score": value} for step, value in score.items()})
    make(tmp_path, *score)
    assert actor_to_score(tmp_path) == step_folder(tmp_path, 20) / "actor"
    best = KeepBestConfig(metric="score")
    assert actor_to_score(tmp_path, best) == step_folder(tmp_path, 5) / "actor"
    with pytest.raises(UserError, match=r"no checkpoint of .* knows val/em"):
        actor_to_score(tmp_path, KeepBestConfig(metric="val/em"))


def test_the_best_can_be_scored_only_where_it_is_kept() -> None:
    with pytest.raises(ConfigError, match=r"checkpoint=best is the one that trainer\.keep_best"):
        load_task_config(["recipe=quickstart", "evaluation.checkpoint=best"])
    with pytest.raises(ConfigError, match=r"evaluation\.checkpoint='first' is not allowed"):
        load_task_config(["recipe=quickstart", "evaluation.checkpoint=first"])


def test_a_checkpoint_of_the_same_step_takes_the_others_place(tmp_path: Path) -> None:
    for content in ("first", "second"):
        partial = begin_checkpoint(tmp_path, 3)
        (partial / "reward.json").write_text(content)
        assert commit_checkpoint(partial) == step_folder(tmp_path, 3)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["global_step_3"]
    assert (step_folder(tmp_path, 3) / "reward.json").read_text() == "second"


def test_a_checkpoint_without_a_model_to_load_says_how_to_get_one(tmp_path: Path) -> None:
    save_with(tmp_path, {4: {}})
    with pytest.raises(UserError, match=r"verl\.trainer\.main_export .*global_step_4"):
        actor_to_score(tmp_path)


def test_at_least_one_is_kept() -> None:
    with pytest.raises(ConfigError, match="max_ckpt_to_keep"):
        TrainerConfig(max_ckpt_to_keep=0)
