"""Memory, disk and shared memory of a run on a machine, as lines."""

from __future__ import annotations

from verl.config.ppo import PPOConfig
from verl.trainer.check.gpu_memory import (
    engine_phase,
    gpu_phases,
    kv_cache_bytes,
    longest_context,
)
from verl.trainer.check.host_memory import host_phase
from verl.trainer.check.models import RoleModel
from verl.trainer.check.storage import disk_line, shm_line
from verl.trainer.machine import Machine
from verl.utils.checklist import CheckLine, Verdict, decide


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
    contexts = 1 + int(room / (kv_cache_bytes(config, models[0]) * longest_context(config)))
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
