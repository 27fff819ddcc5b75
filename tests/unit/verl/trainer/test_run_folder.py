"""Two runs never share a folder's results, and a half checkpoint is never chosen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from verl.errors import UserError
from verl.trainer.run_folder import RunFolderError, claim_run_folder
from verl.utils.checkpoints import (
    Checkpoint,
    actor_to_score,
    begin_checkpoint,
    commit_checkpoint,
    find_newest_actor,
    restore_replaced,
    step_folder,
)


def leave_a_run(folder: Path, step: int) -> Path:
    actor = step_folder(folder, step) / "actor"
    actor.mkdir(parents=True)
    (actor / "config.json").write_text("{}", encoding="utf-8")
    (folder / "metrics.jsonl").write_text(f'{{"step": {step}}}\n', encoding="utf-8")
    (folder / "eval").mkdir(exist_ok=True)
    return actor


def test_an_earlier_longer_run_is_set_aside_whole(tmp_path: Path) -> None:
    leave_a_run(tmp_path, 40)
    (tmp_path / "checkpoints" / "global_step_45.partial" / "actor").mkdir(parents=True)
    (tmp_path / "calls.sqlite").write_bytes(b"a recording that the new run replays")
    with claim_run_folder(tmp_path):
        assert find_newest_actor(tmp_path) is None
        newest = leave_a_run(tmp_path, 3)
    assert find_newest_actor(tmp_path) == newest
    (earlier,) = (tmp_path / "earlier").iterdir()
    assert find_newest_actor(earlier) == earlier / "checkpoints" / "global_step_40" / "actor"
    assert (earlier / "metrics.jsonl").read_text(encoding="utf-8") == '{"step": 40}\n'
    assert (earlier / "eval").is_dir()
    assert [path.name for path in (earlier / "checkpoints").iterdir()] == ["global_step_40"]
    assert (tmp_path / "calls.sqlite").is_file(), "what is no result of a run stays"
    with claim_run_folder(tmp_path):
        assert len(list((tmp_path / "earlier").iterdir())) == 2


def test_a_fresh_folder_has_no_earlier_run(tmp_path: Path) -> None:
    with claim_run_folder(tmp_path / "deep" / "new"):
        assert not (tmp_path / "deep" / "new" / "earlier").exists()


def test_a_second_run_at_the_same_time_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    with claim_run_folder(tmp_path):
        leave_a_run(tmp_path, 1)
        with (
            pytest.raises(RunFolderError, match="another run is writing into"),
            claim_run_folder(tmp_path),
        ):
            raise AssertionError("never entered")
        assert find_newest_actor(tmp_path) is not None
    with claim_run_folder(tmp_path):
        assert find_newest_actor(tmp_path) is None


def test_a_run_that_starts_from_the_earlier_ones_model_keeps_it(tmp_path: Path) -> None:
    actor = leave_a_run(tmp_path, 5)
    with (
        pytest.raises(RunFolderError, match=r"another trainer\.experiment_name"),
        claim_run_folder(tmp_path, inputs=["Qwen/Qwen2.5-3B-Instruct", str(actor)]),
    ):
        raise AssertionError("never entered")
    assert find_newest_actor(tmp_path) == actor


def test_copies_and_scraps_beside_checkpoints_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("global_step_40.bak", "global_step_99.partial", "global_step_", "old"):
        actor = tmp_path / "checkpoints" / name / "actor"
        actor.mkdir(parents=True)
        (actor / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="no checkpoint to score"):
        actor_to_score(tmp_path)
    (step_folder(tmp_path, 12) / "actor").mkdir(parents=True)
    assert find_newest_actor(tmp_path) is None, "it has no config.json"
    right = leave_a_run(tmp_path, 7)
    assert actor_to_score(tmp_path) == right


def test_a_checkpoint_cut_off_in_the_middle_is_not_chosen_and_goes(
    tmp_path: Path,
) -> None:
    def save(step: int, killed: bool = False) -> None:
        partial = begin_checkpoint(tmp_path, step)
        (partial / "actor").mkdir()
        (partial / "actor" / "config.json").write_text(json.dumps(step), encoding="utf-8")
        if killed:
            raise KeyboardInterrupt
        (partial / "reward.json").write_text("{}", encoding="utf-8")
        commit_checkpoint(partial)

    save(2)
    with pytest.raises(KeyboardInterrupt):
        save(4, killed=True)
    assert actor_to_score(tmp_path) == step_folder(tmp_path, 2) / "actor"
    save(6)
    folders = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert folders == ["global_step_2", "global_step_6"]
    save(6)
    assert (step_folder(tmp_path, 6) / "reward.json").is_file(), "written again, whole"


def test_a_checkpoint_that_was_about_to_be_replaced_is_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two renames of a save of the same step."""
    old = leave_a_run(tmp_path, 6)
    partial = begin_checkpoint(tmp_path, 6)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            commit_checkpoint(partial)
    assert find_newest_actor(tmp_path) is None
    restore_replaced(tmp_path)
    assert actor_to_score(tmp_path) == old
    begin_checkpoint(tmp_path, 7)
    assert actor_to_score(tmp_path) == old, "it is no leftover"


def steps_of(metrics: Path) -> list[int]:
    return [json.loads(line)["step"] for line in metrics.read_text("utf-8").splitlines()]


def leave_files_of_steps(folder: Path, steps: range) -> None:
    lines = [json.dumps({"step": step, "value": step * 1.5}) for step in steps]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 1']), encoding="utf-8")
    for name in ("samples", "validation"):
        (folder / name).mkdir(exist_ok=True)
        for step in steps:
            (folder / name / f"step_{step}.jsonl").touch()


def test_a_run_that_goes_on_finds_the_folder_as_it_was_at_the_checkpoint(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        leave_a_run(tmp_path, step)
    leave_files_of_steps(tmp_path, range(1, 8))
    (tmp_path / "checkpoints" / "global_step_8.partial").mkdir()
    start = Checkpoint(4, step_folder(tmp_path, 4))
    with claim_run_folder(tmp_path, find_start=lambda: start) as found:
        assert found == start
        assert steps_of(tmp_path / "metrics.jsonl") == [1, 2, 3, 4]
        for name in ("samples", "validation"):
            left = sorted(path.name for path in (tmp_path / name).iterdir())
            assert left == [f"step_{step}.jsonl" for step in (1, 2, 3, 4)]
        kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
        assert kept == ["global_step_2", "global_step_4"]
    (earlier,) = (tmp_path / "earlier").iterdir()
    assert [path.name for path in earlier.iterdir()] == ["global_step_6"]


def test_a_run_that_goes_on_from_another_folder_takes_its_curves_along(tmp_path: Path) -> None:
    other, own = tmp_path / "other", tmp_path / "own"
    leave_a_run(other, 4)
    leave_files_of_steps(other, range(1, 8))
    before = (other / "metrics.jsonl").read_text("utf-8")
    own.mkdir()
    leave_a_run(own, 9)
    start = Checkpoint(4, step_folder(other, 4))
    with claim_run_folder(own, find_start=lambda: start):
        assert steps_of(own / "metrics.jsonl") == [1, 2, 3, 4]
        assert find_newest_actor(own) is None
    assert len(list((own / "earlier").iterdir())) == 1
    assert (other / "metrics.jsonl").read_text("utf-8") == before


def test_nothing_is_touched_where_it_cannot_be_decided(tmp_path: Path) -> None:
    def undecided() -> None:
        raise UserError("another run")

    actor = leave_a_run(tmp_path, 5)
    with (
        pytest.raises(UserError, match="another run"),
        claim_run_folder(tmp_path, find_start=undecided),
    ):
        raise AssertionError("never entered")
    assert find_newest_actor(tmp_path) == actor
