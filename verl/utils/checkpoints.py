"""Where a run's checkpoints lie, and the reward function's state beside them.

Guarantees: a folder named ``global_step_N`` holds a whole checkpoint; any other name is no
checkpoint of a run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verl.errors import UserError
from verl.interfaces import RewardFunction

_REWARD_STATE = "reward.json"
_STEP_FOLDER = re.compile(r"global_step_(\d+)")
_PARTIAL = ".partial"


def step_folder(output_dir: Path, step: int) -> Path:
    """Folder of the checkpoint after ``step`` steps."""
    return output_dir / "checkpoints" / f"global_step_{step}"


def find_newest_actor(output_dir: Path) -> Path | None:
    """The policy of the run's newest checkpoint, None if it has none."""
    for _, folder in sorted(_step_folders(output_dir), reverse=True):
        if (folder / "actor" / "config.json").is_file():
            return folder / "actor"
    return None


def prune_checkpoints(output_dir: Path, step: int, keep: int | None) -> None:
    """Removes old checkpoints once that of ``step`` is complete.

    Args:
        output_dir: of the run.
        step: the newest checkpoint of this run; later ones are an earlier run's, and stay.
        keep: how many stay of ``step`` and those before it; None keeps all.
    """
    if keep is None:
        return
    ours = sorted((s, folder) for s, folder in _step_folders(output_dir) if s <= step)
    for _, folder in ours[:-keep]:
        # A run that is killed here leaves nothing half removed under a checkpoint's name.
        shutil.rmtree(folder.rename(_partial(folder)))


def _step_folders(output_dir: Path) -> list[tuple[int, Path]]:
    """Step and folder of each checkpoint, in any order."""
    return [
        (int(match.group(1)), folder)
        for folder in (output_dir / "checkpoints").glob("global_step_*")
        if (match := _STEP_FOLDER.fullmatch(folder.name))
    ]


@contextmanager
def whole_checkpoint(output_dir: Path, step: int) -> Iterator[Path]:
    """A folder to write a checkpoint into; it gets its own name only once all of it is there."""
    remove_partial_checkpoints(output_dir)
    final = step_folder(output_dir, step)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(final)
    partial.mkdir()
    yield partial
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)


def _partial(folder: Path) -> Path:
    """The name of a checkpoint of which only a part may be there."""
    return folder.with_name(f"{folder.name}{_PARTIAL}")


def remove_partial_checkpoints(output_dir: Path) -> None:
    """Removes what a run that was killed while it saved has left half written."""
    for leftover in (output_dir / "checkpoints").glob(f"*{_PARTIAL}"):
        shutil.rmtree(leftover)


def newest_actor(output_dir: Path) -> Path:
    """The policy of the run's newest checkpoint.

    Raises:
        UserError: if the run has none.
    """
    actor = find_newest_actor(output_dir)
    if actor is None:
        raise UserError(
            f"{output_dir} has no checkpoint to score; train first (bash train.sh), or name one: "
            "MODEL_PATH=folder bash test.sh"
        )
    return actor


def save_reward_state(folder: Path, reward: RewardFunction) -> None:
    """Writes the reward function's state into a checkpoint's folder."""
    (folder / _REWARD_STATE).write_text(json.dumps(reward.state_dict()) + "\n", encoding="utf-8")


def load_reward_state(actor: Path, reward: RewardFunction) -> None:
    """Restores what :func:`save_reward_state` left beside a policy; nothing without a file."""
    path = actor.parent / _REWARD_STATE
    if path.is_file():
        reward.load_state_dict(json.loads(path.read_text(encoding="utf-8")))
