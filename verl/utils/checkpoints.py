"""A run's checkpoints: where they lie, what is in them, which of them stay.

Guarantees: a folder named ``global_step_N`` holds a whole checkpoint; any other name is no
checkpoint of a run. A process that is killed while it writes or removes one leaves every other
whole, and leaves at most folders that :func:`remove_partial_checkpoints` takes away.

A checkpoint holds

- ``state/actor`` and, with a critic, ``state/critic``: the training state of each
  (:mod:`verl.workers.fsdp.training_state`), the ranks' streams of random numbers beside it, and the
  form of its Hugging Face checkpoint;
- ``run.json``: what the driver goes on from (:mod:`verl.trainer.ppo.run_state`);
- ``reward.json``: the reward function's state;
- ``actor`` and ``critic``: Hugging Face checkpoints, unless they are left to be exported.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl.config.saving import KeepBestConfig
from verl.errors import UserError
from verl.interfaces import RewardFunction

RUN_STATE = "run.json"
REWARD_STATE = "reward.json"
_CHECKPOINTS = "checkpoints"
_STEP_FOLDER = re.compile(r"global_step_(\d+)")
_PARTIAL = ".partial"  # ends the name of a checkpoint of which only a part may be there
_REPLACED = f".replaced{_PARTIAL}"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: after how many steps, and its folder."""

    step: int
    folder: Path

    def state(self, role: str) -> Path:
        """Folder of the training state of "actor" or "critic"."""
        return state_folder(self.folder, role)

    def belongs_to(self, output_dir: Path) -> bool:
        """Whether it is one of the run in this folder."""
        return self.folder.resolve().parent.parent == output_dir.resolve()

    @property
    def actor(self) -> Path | None:
        """Folder of the policy; None while it is left to be exported."""
        actor = self.folder / "actor"
        return actor if (actor / "config.json").is_file() else None

    @property
    def resumable(self) -> bool:
        """Whether training can go on from it; a folder of weights alone is not enough."""
        return (self.folder / RUN_STATE).is_file() and self.state("actor").is_dir()

    def read_run_state(self) -> dict[str, Any]:
        """The content of ``run.json``."""
        content: dict[str, Any] = json.loads((self.folder / RUN_STATE).read_text(encoding="utf-8"))
        return content


def state_folder(checkpoint: Path, role: str) -> Path:
    """Where the training state of a role lies in a checkpoint's folder."""
    return checkpoint / "state" / role


def step_folder(output_dir: Path, step: int) -> Path:
    """Folder of the checkpoint after ``step`` steps."""
    return output_dir / _CHECKPOINTS / f"global_step_{step}"


def checkpoint_at(folder: Path) -> Checkpoint | None:
    """The checkpoint that ``folder`` is; None if it has not the name of one."""
    match = _STEP_FOLDER.fullmatch(folder.name)
    return Checkpoint(int(match.group(1)), folder) if match and folder.is_dir() else None


def list_checkpoints(output_dir: Path) -> list[Checkpoint]:
    """The run's checkpoints, the newest first."""
    folders = (output_dir / _CHECKPOINTS).glob("global_step_*")
    found = [checkpoint for folder in folders if (checkpoint := checkpoint_at(folder))]
    return sorted(found, key=lambda checkpoint: -checkpoint.step)


# -- writing and removing --------------------------------------------------------------------------


def begin_checkpoint(output_dir: Path, step: int) -> Path:
    """An empty folder to write a checkpoint into; :func:`commit_checkpoint` gives it its name."""
    remove_partial_checkpoints(output_dir)
    final = step_folder(output_dir, step)
    partial = final.with_name(f"{final.name}{_PARTIAL}")
    partial.mkdir(parents=True)
    return partial


def commit_checkpoint(partial: Path) -> Path:
    """Gives a folder in which all is written the name of a checkpoint; returns that."""
    final = partial.with_name(partial.name.removesuffix(_PARTIAL))
    replaced = final.with_name(f"{final.name}{_REPLACED}")
    if final.exists():  # of the same step: killed here, restore_replaced brings it back
        final.rename(replaced)
    os.replace(partial, final)
    if replaced.exists():
        shutil.rmtree(replaced)
    return final


def restore_replaced(output_dir: Path) -> None:
    """Gives its name back to a checkpoint that another of the same step was to replace when the run
    was killed. Only the run itself may call it, and not while it saves."""
    for replaced in (output_dir / _CHECKPOINTS).glob(f"*{_REPLACED}"):
        final = replaced.with_name(replaced.name.removesuffix(_REPLACED))
        if not final.exists():
            replaced.rename(final)


def remove_partial_checkpoints(output_dir: Path) -> None:
    """Removes what a run that was killed while it saved has left half written."""
    restore_replaced(output_dir)
    for leftover in (output_dir / _CHECKPOINTS).glob(f"*{_PARTIAL}"):
        shutil.rmtree(leftover)


def prune_checkpoints(
    output_dir: Path, step: int, keep: int | None, best: KeepBestConfig | None = None
) -> None:
    """Removes old checkpoints once that of ``step`` is complete.

    Args:
        step: the newest checkpoint of this run; later ones are an earlier run's, and stay.
        keep: how many stay of ``step`` and those before it; None keeps all.
        best: a checkpoint that stays as well, however old it is.
    """
    if keep is None:
        return
    ours = [checkpoint for checkpoint in list_checkpoints(output_dir) if checkpoint.step <= step]
    kept = None if best is None else find_best(ours, best)
    for checkpoint in ours[keep:]:
        if checkpoint != kept:
            folder = checkpoint.folder  # killed meanwhile, this leaves nothing under its name
            shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}{_PARTIAL}")))


def find_best(checkpoints: list[Checkpoint], best: KeepBestConfig) -> Checkpoint | None:
    """The checkpoint whose step had the best value of the metric, the newest of equals; None if
    none of them knows the metric."""
    sign = 1.0 if best.mode == "max" else -1.0
    values = {
        checkpoint: sign * value
        for checkpoint in checkpoints
        if checkpoint.resumable
        and (value := checkpoint.read_run_state()["metrics"].get(best.metric)) is not None
        and math.isfinite(value)
    }
    return max(values, key=lambda checkpoint: (values[checkpoint], checkpoint.step), default=None)


# -- the policy, and the reward's state ------------------------------------------------------------


def config_of_run(actor: Path) -> Path | None:
    """The ``config.yaml`` of the run that a policy's folder lies in; None for one of no run."""
    folder = actor.resolve()
    if folder.name != "actor" or checkpoint_at(folder.parent) is None:
        return None
    config = folder.parents[2] / "config.yaml"
    return config if config.is_file() else None


def find_newest_actor(output_dir: Path) -> Path | None:
    """The policy of the run's newest checkpoint that has one to load, None if there is none."""
    return next((c.actor for c in list_checkpoints(output_dir) if c.actor), None)


def actor_to_score(output_dir: Path, best: KeepBestConfig | None = None) -> Path:
    """The policy of the run's newest checkpoint, or of the best by ``best``; raises
    :class:`UserError` if the run has none."""
    checkpoints = candidates = list_checkpoints(output_dir)
    if best is not None:
        found = find_best(checkpoints, best)
        candidates = [found] if found else []
    for checkpoint in candidates:
        if checkpoint.actor:
            return checkpoint.actor
    for checkpoint in candidates:
        if checkpoint.resumable:
            raise UserError(
                f"{checkpoint.folder} holds no model to load yet; write it: python -m "
                f"verl.trainer.main_export {checkpoint.folder}"
            )
    if best is not None and checkpoints:
        raise UserError(
            f"no checkpoint of {output_dir} knows {best.metric}, by which the best is chosen; set "
            "evaluation.checkpoint=newest, or train with a trainer.test_freq that meets save_freq"
        )
    raise UserError(
        f"{output_dir} has no checkpoint to score; train first (bash train.sh), or name one: "
        "MODEL_PATH=folder bash test.sh"
    )


def load_reward_state(actor: Path, reward: RewardFunction) -> None:
    """Restores the reward state that was saved beside a policy; nothing without a file."""
    path = actor.parent / REWARD_STATE
    if path.is_file():
        reward.load_state_dict(json.loads(path.read_text(encoding="utf-8")))
