"""Memory, disk and shared memory of a run on a machine, as lines."""

from __future__ import annotations

from verl.config.ppo import PPOConfig
from verl.trainer.check.gpu_memory import engine_phase, gpu_phases, kv_cache_bytes
from verl.trainer.check.host_memory import host_phase
from verl.trainer.check.models import RoleModel
from verl.trainer.check.storage import disk_line, shm_line
from verl.trainer.machine import Machine
from verl.utils.checklist import CheckLine, Verdict

_GPUS_KEY = "trainer.n_gpus_per_node"


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
    lines = []
    if device == "cuda":
        lines += gpu_lines(config, models, machine, tolerance)
    host = host_phase(config, models, device)
    return [
        *lines,
        host.line("main memory", machine.ram_bytes, tolerance),
        disk_line(config, models, total_steps, machine),
        shm_line(device, machine),
    ]


def gpu_lines(
    config: PPOConfig, models: list[RoleModel], machine: Machine, tolerance: float = 1.0
) -> list[CheckLine]:
    """Number of GPUs, each phase on the smallest of them, and what limits the run."""
    wanted = config.trainer.n_gpus_per_node
    lines = [_count_line(len(machine.gpus), wanted)]
    if not machine.gpus:
        advice = "run --check there, or say which are meant: --gpus 4x80"
        return [*lines, CheckLine("GPU memory", Verdict.UNKNOWN, "no GPU", advice=advice)]
    used = machine.gpus[:wanted]
    size = min(gpu.total_bytes for gpu in used)
    free = min(gpu.total_bytes - gpu.used_bytes for gpu in used)
    phases = gpu_phases(config, models, size)
    of_phases = [phase.line("GPU memory", free, tolerance) for phase in phases]
    lines += of_phases
    share = config.actor_rollout_ref.rollout.gpu_memory_utilization * size
    engine = engine_phase(config, models[0])
    lines.append(engine.line("GPU memory", share, tolerance))
    tightest = max(phases, key=lambda phase: phase.size)
    room = max(0.0, share - engine.size)
    contexts = 1 + int(room / (kv_cache_bytes(config, models[0]) * _context(config)))
    lines.append(
        CheckLine(
            "tightest phase",
            of_phases[phases.index(tightest)].verdict,
            f"{tightest.name}: {tightest.size / size:.0%} of the GPU; KV cache for {contexts} "
            "longest contexts",
            advice=f"lower it by {', '.join(tightest.keys)}" if tightest.keys else "",
        )
    )
    return lines


def _context(config: PPOConfig) -> int:
    return config.actor_rollout_ref.rollout.max_model_len or config.data.max_prompt_length


def _count_line(found: int, wanted: int) -> CheckLine:
    enough = found >= wanted
    return CheckLine(
        "GPUs of a node",
        Verdict.OK if enough else Verdict.NOT_OK,
        str(found),
        str(wanted),
        "" if enough else f"change {_GPUS_KEY} or CUDA_VISIBLE_DEVICES",
    )
