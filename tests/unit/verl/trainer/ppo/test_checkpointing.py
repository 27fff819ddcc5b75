"""A checkpoint gets its name when all of it is written; one that cannot be written is told."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from verl.config.ppo import TrainerConfig
from verl.config.saving import KeepBestConfig
from verl.config.validation import ConfigError
from verl.task import ValidationResult
from verl.trainer.ppo.checkpointing import CheckpointError, CheckpointSaver
from verl.trainer.ppo.run_state import RunIdentity, RunState
from verl.utils.checkpoints import list_checkpoints, step_folder


class SlowRole:
    """Stands for the ranks of a role: writes when it is told to."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.begun = 0

    def begin_save(self, state: str, export: str | None) -> None:
        self.begun += 1
        self._state, self._export = Path(state), export

    def write(self) -> None:
        self._state.mkdir(parents=True)
        (self._state / ".metadata").touch()
        if self._export is not None:
            Path(self._export).mkdir()

    def save_error(self) -> list[str | None]:
        return [None, self.error]

    def finish_save(self) -> list[str | None]:
        if self.error is None and not self._state.exists():
            self.write()
        return self.save_error()


def state(step: int, validated: bool = False) -> RunState:
    last = ValidationResult(step, None, {}) if validated else None  # type: ignore[arg-type]
    return RunState(step, RunIdentity({}, 9, 1), {}, {"loss": 1.0}, last=last)


def saver(folder: Path, *roles: SlowRole, **settings: object) -> CheckpointSaver:
    config = TrainerConfig(default_local_dir=str(folder), **settings)  # type: ignore[arg-type]
    names = ("actor", "critic")[: len(roles)]
    return CheckpointSaver(config, dict(zip(names, roles, strict=True)))


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.01)


def test_it_has_its_name_once_every_role_is_written(tmp_path: Path) -> None:
    actor, critic = SlowRole(), SlowRole()
    saving = saver(tmp_path, actor, critic)
    saving.save(state(3), {})
    actor.write()
    saving.check()
    time.sleep(0.1)
    assert list_checkpoints(tmp_path) == []
    critic.write()
    wait_until(lambda: list_checkpoints(tmp_path))
    assert {p.name for p in step_folder(tmp_path, 3).iterdir()} == {
        *("actor", "critic", "state", "run.json", "reward.json"),
    }
    saving.check()


def test_the_next_waits_and_the_same_is_not_written_twice(tmp_path: Path) -> None:
    actor = SlowRole()
    saving = saver(tmp_path, actor, save_hf="never", max_ckpt_to_keep=1)
    for step in (1, 1, 2, 2):
        saving.save(state(step), {})
    saving.wait()
    assert actor.begun == 2
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [2]


def test_what_cannot_be_written_ends_the_run_and_names_the_last_whole_one(tmp_path: Path) -> None:
    actor = SlowRole()
    saving = saver(tmp_path, actor, save_hf="never")
    saving.save(state(1), {})
    saving.wait()
    saving.save(state(2), {})
    actor.error = "rank 1: No space left on device"
    with pytest.raises(CheckpointError, match=r"No space left .* one is global_step_1"):
        saving.check()
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [1]


def test_a_folder_that_cannot_be_made_is_told_as_well(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(CheckpointError, match="cannot be written"):
        saver(tmp_path, SlowRole()).save(state(1), {})


def test_a_best_that_nothing_measures_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saving = saver(tmp_path, SlowRole(), save_hf="never", keep_best=KeepBestConfig(metric="los"))
    with caplog.at_level(logging.WARNING):
        saving.save(state(1), {})
    saving.wait()
    assert "no metric los" in caplog.text


@pytest.mark.parametrize("wrong", [{"save_hf": "sometimes"}, {"resume": ""}])
def test_settings_are_checked(wrong: dict[str, str]) -> None:
    (key,) = wrong
    with pytest.raises(ConfigError, match=rf"trainer\.{key}"):
        TrainerConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"keep_best\.mode"):
        KeepBestConfig(metric="x", mode="most")


def test_a_save_whose_ranks_are_gone_gets_no_name_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    lost = saver(tmp_path, SlowRole())
    lost.save(state(3), {})
    lost.close()
    actor = SlowRole()
    again = saver(tmp_path, actor)
    again.save(state(3), {})
    actor.write()
    again.wait()
    assert [c.step for c in list_checkpoints(tmp_path)] == [3]


def test_a_save_that_is_written_when_the_ranks_go_gets_its_name(tmp_path: Path) -> None:
    actor = SlowRole()
    saving = saver(tmp_path, actor)
    saving.save(state(3), {})
    actor.write()
    saving.close()
    assert [c.step for c in list_checkpoints(tmp_path)] == [3]
