"""Memory of a run on a machine, disk for its checkpoints, and ``/dev/shm`` for what its processes
share, as lines."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from verl.config.ppo import PPOConfig
from verl.trainer.check.gpu_memory import (
    engine_phase,
    gpu_phases,
    kv_cache_bytes,
)
from verl.trainer.check.host_memory import host_phase
from verl.trainer.check.models import ADAM, MASTER, RoleModel
from verl.trainer.machine import Machine, free_disk
from verl.utils.checklist import GIB, CheckLine, Verdict, compare_bytes, decide, gib

# NCCL's channels between the GPUs of a node, and Ray's objects in flight.
_SHM_ON_CUDA = 1.0 * GIB
_SHM_FOR_RAY = 0.25 * GIB


def memory_lines(
    config: PPOConfig,
    models: list[RoleModel],
    device: str,
    machine: Machine,
    total_steps: int | None,
    tolerance: float = 1.0,
) -> list[CheckLine]:
    """What the run needs of ``machine``, each node of the run being such a one.

    Args:
        total_steps: of the run, for its checkpoints.
        tolerance: see :func:`verl.utils.checklist.compare_bytes`; disk has none.
    """
    return [
        *(gpu_lines(config, models, machine, tolerance) if device == "cuda" else ()),
        host_phase(config, models, device).line("main memory", machine.ram_bytes, tolerance),
        disk_line(config, models, total_steps, machine),
        shm_line(device, machine),
    ]


def gpu_lines(
    config: PPOConfig, models: list[RoleModel], machine: Machine, tolerance: float = 1.0
) -> list[CheckLine]:
    """Number of GPUs, each phase on the smallest of them, and what limits the run."""
    wanted, found = config.trainer.n_gpus_per_node, len(machine.gpus)
    advice = "change trainer.n_gpus_per_node or CUDA_VISIBLE_DEVICES"
    count = decide(found >= wanted, "GPUs of a node", str(found), str(wanted), advice)
    if not machine.gpus:
        advice = "run --check there, or say which are meant: --gpus 4x80"
        return [count, CheckLine("GPU memory", Verdict.UNKNOWN, "no GPU", advice=advice)]
    used = machine.gpus[:wanted]
    size = min(gpu.total_bytes for gpu in used)
    free = min(gpu.total_bytes - gpu.used_bytes for gpu in used)
    phases = gpu_phases(config, models, size)
    of_phases = [phase.line("GPU memory", free, tolerance) for phase in phases]
    share = config.actor_rollout_ref.rollout.gpu_memory_utilization * size
    engine = engine_phase(config, models[0])
    tightest = max(phases, key=lambda phase: phase.size)
    room = max(0.0, share - engine.size)
    contexts = 1 + int(room / (kv_cache_bytes(config, models[0]) * config.longest_context))
    return [
        count,
        *of_phases,
        engine.line("GPU memory", share, tolerance),
        CheckLine(
            "tightest phase",
            of_phases[phases.index(tightest)].verdict,
            f"{tightest.name}: {tightest.size / size:.0%} of the GPU; KV cache for {contexts} "
            "longest contexts",
            advice=f"lower it by {', '.join(tightest.keys)}" if tightest.keys else "",
        ),
    ]


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
