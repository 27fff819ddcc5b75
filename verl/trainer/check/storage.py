"""Disk for the checkpoints of a run, and ``/dev/shm`` for what its processes share."""

from __future__ import annotations

from pathlib import Path

from verl.config.ppo import PPOConfig
from verl.trainer.check.gpu_memory import bucket_bytes
from verl.trainer.check.machine import Machine, free_disk
from verl.trainer.check.models import MASTER, RoleModel
from verl.utils.checklist import GIB, CheckLine, Verdict, compare_bytes, gib

# NCCL's channels between the GPUs of a node, and Ray's objects in flight.
_SHM_ON_CUDA = 1.0 * GIB
_SHM_FOR_RAY = 0.25 * GIB


def saves(config: PPOConfig, total_steps: int) -> int:
    """Checkpoints that a run of ``total_steps`` writes."""
    freq = config.trainer.save_freq
    if config.trainer.val_only:
        return 0
    regular = total_steps // freq if freq > 0 else 0
    return regular + (freq <= 0 or total_steps % freq > 0)


def disk_line(
    config: PPOConfig, models: list[RoleModel], total_steps: int | None, machine: Machine
) -> CheckLine:
    """Whether the checkpoints that are kept have room, and a new one beside them."""
    trainer = config.trainer
    one = sum(MASTER * model.parameters for model in models if model.trained)
    subject = f"disk for {trainer.default_local_dir}"
    if total_steps is None:
        found = f"a checkpoint takes {gib(one)}; how many there are follows from the data files"
        return CheckLine(subject, Verdict.UNKNOWN, found)
    kept = saves(config, total_steps)
    limit = getattr(trainer, "max_ckpt_to_keep", None)
    if limit is not None:
        kept = min(kept, limit + 1)
    folder = Path(trainer.default_local_dir)
    have = None if machine.described else free_disk(folder)
    line = compare_bytes(
        subject,
        have,
        float(kept * one),
        "change trainer.save_freq, trainer.max_ckpt_to_keep or trainer.default_local_dir",
    )
    needed = f"{line.needed} ({kept} x {gib(one)})"
    return CheckLine(line.subject, line.verdict, line.found, needed, line.advice)


def shm_line(
    config: PPOConfig, models: list[RoleModel], device: str, machine: Machine
) -> CheckLine:
    """Whether ``/dev/shm`` holds NCCL's channels, or on the CPU the buckets of weights."""
    need = _SHM_ON_CUDA
    if device == "cpu":
        rollout = config.actor_rollout_ref.rollout
        element = 2 if rollout.dtype == "bfloat16" else 4
        model = float(element * models[0].parameters)
        need = min(model, 2 * bucket_bytes(config)) + _SHM_FOR_RAY
    return compare_bytes(
        "/dev/shm", machine.shm_bytes, need, "enlarge it (docker run --shm-size=…)"
    )
