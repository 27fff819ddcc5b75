"""Checkpoints of supervised fine-tuning: the training state, and of which run it is.

Guarantees: they are those of :mod:`verl.utils.checkpoints`, the model's role is "actor"; a run goes
on only from a checkpoint of its own configuration.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from verl.config.saving import NEVER
from verl.config.sft import SFTConfig
from verl.errors import UserError
from verl.utils.checkpoints import (
    RUN_STATE,
    Checkpoint,
    begin_checkpoint,
    commit_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    restore_replaced,
    state_folder,
)

ROLE = "actor"


def identity(config: SFTConfig) -> dict[str, Any]:
    """What must be the same where a run goes on; JSON values."""
    values = {
        "model.path": config.model.path,
        "model.dtype": config.model.dtype,
        "model.lora": asdict(config.model.lora),
        "optim": asdict(config.optim),
        "data": asdict(config.data),
        "trainer.batch_size": config.trainer.batch_size,
        "trainer.steps": config.total_steps,
        "trainer.seed": config.trainer.seed,
    }
    same: dict[str, Any] = json.loads(json.dumps(values))
    return same


def find_start(config: SFTConfig) -> Checkpoint | None:
    """The newest checkpoint in ``trainer.run_dir``; None to begin anew.

    Raises:
        UserError: if it is one of another configuration.
    """
    run_dir = config.trainer.run_dir
    if run_dir is None or config.trainer.resume == NEVER:
        return None
    restore_replaced(Path(run_dir))
    found = next((c for c in list_checkpoints(Path(run_dir)) if c.resumable), None)
    if found is None:
        return None
    then, now = found.read_run_state()["identity"], identity(config)
    different = [
        f"{key} was {then.get(key)!r}, is {now[key]!r}" for key in now if then.get(key) != now[key]
    ]
    if different:
        raise UserError(
            f"{run_dir} holds a run that this one differs from: {'; '.join(different)}. "
            "Take its configuration to go on with it; trainer.resume=never sets it aside"
        )
    return found


def save(config: SFTConfig, worker: Any, step: int) -> None:
    """Writes the checkpoint after ``step`` steps and waits until it is there; ``worker`` is a
    group's role of :class:`verl.workers.fsdp.trained_worker.TrainedWorker`.

    Raises:
        UserError: if it cannot be written.
    """
    run_dir = Path(str(config.trainer.run_dir))
    try:
        partial = begin_checkpoint(run_dir, step)
        content = {"step": step, "identity": identity(config), "metrics": {}, "trackers": {}}
        (partial / RUN_STATE).write_text(json.dumps(content) + "\n", encoding="utf-8")
        worker.begin_save(str(state_folder(partial, ROLE)), None)
        failed = next((error for error in worker.finish_save() if error is not None), None)
        if failed is not None:
            raise OSError(failed)
        commit_checkpoint(partial)
    except OSError as error:
        raise UserError(
            f"a checkpoint cannot be written into {run_dir}: {error}. Make room there; the same "
            "command then goes on from the one before"
        ) from error
    prune_checkpoints(run_dir, step, config.trainer.max_ckpt_to_keep)
