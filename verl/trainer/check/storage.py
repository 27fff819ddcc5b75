"""Disk for the checkpoints of a run, and ``/dev/shm`` for what its processes share."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from verl.config.ppo import PPOConfig
from verl.trainer.check.models import ADAM, MASTER, RoleModel
from verl.trainer.machine import Machine, free_disk
from verl.utils.checklist import GIB, CheckLine, Verdict, compare_bytes, gib

# NCCL's channels between the GPUs of a node, and Ray's objects in flight.
_SHM_ON_CUDA = 1.0 * GIB
_SHM_FOR_RAY = 0.25 * GIB


def saves(config: PPOConfig, total_steps: int) -> int:
    """Checkpoints that a run of ``total_steps`` writes."""
    freq = config.trainer.save_freq
    if config.trainer.val_only:
        return 0
    return -(-total_steps // freq) if freq > 0 else 1


def disk_line(
    config: PPOConfig, models: list[RoleModel], total_steps: int | None, machine: Machine
) -> CheckLine:
    """Whether the checkpoints that are kept have room, and a new one beside them."""
    trainer = config.trainer
    # An exported folder has the merged weights, and adapters beside them.
    written = MASTER * sum(model.masters for model in models if model.trained)
    exported = written if trainer.save_hf == "always" else 0
    one = (MASTER + ADAM) * sum(model.trainable for model in models) + exported
    subject = f"disk for {trainer.default_local_dir}"
    if total_steps is None:
        found = f"a checkpoint takes {gib(one)}; how many there are follows from the data files"
        return CheckLine(subject, Verdict.UNKNOWN, found)
    kept = saves(config, total_steps)
    if trainer.max_ckpt_to_keep is not None:
        kept = min(kept, trainer.max_ckpt_to_keep + 1 + (trainer.keep_best is not None))
    exported_last = written if trainer.save_hf == "last" and kept else 0
    have = None if machine.described else free_disk(Path(trainer.default_local_dir))
    need = float(kept * one + exported_last)
    advice = (
        "change trainer.save_freq, trainer.max_ckpt_to_keep, trainer.save_hf or "
        "trainer.default_local_dir"
    )
    line = compare_bytes(subject, have, need, advice)
    return replace(line, needed=f"{line.needed} ({kept} x {gib(one)})")


def shm_line(device: str, machine: Machine) -> CheckLine:
    """Whether ``/dev/shm`` holds NCCL's channels, the engines' queues and Ray's objects.

    Without GPUs less may do, as Ray can take a folder instead.
    """
    need, tolerance = (_SHM_ON_CUDA, 1.0) if device == "cuda" else (_SHM_FOR_RAY, math.inf)
    advice = "enlarge it (docker run --shm-size=2g)"
    return compare_bytes("/dev/shm", machine.shm_bytes, need, advice, tolerance=tolerance)
