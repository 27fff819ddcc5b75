"""Where a run's checkpoints lie, and the reward function's state beside them."""

from __future__ import annotations

import json
from pathlib import Path

from verl.errors import UserError
from verl.interfaces import RewardFunction

_REWARD_STATE = "reward.json"


def step_folder(output_dir: Path, step: int) -> Path:
    """Folder of the checkpoint after ``step`` steps."""
    return output_dir / "checkpoints" / f"global_step_{step}"


def find_newest_actor(output_dir: Path) -> Path | None:
    """The policy of the run's newest checkpoint, None if it has none."""
    found = [
        (int(path.parent.name.removeprefix("global_step_")), path)
        for path in (output_dir / "checkpoints").glob("global_step_*/actor")
        if (path / "config.json").is_file()
    ]
    return max(found)[1] if found else None


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
    (folder / _REWARD_STATE).write_text(json.dumps(reward.state_dict()) + "\n")


def load_reward_state(actor: Path, reward: RewardFunction) -> None:
    """Restores what :func:`save_reward_state` left beside a policy; nothing without a file."""
    path = actor.parent / _REWARD_STATE
    if path.is_file():
        reward.load_state_dict(json.loads(path.read_text()))
