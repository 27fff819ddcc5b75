"""``python -m verl.trainer.main_sft [key=value …]``: supervised fine-tuning under FSDP2."""

from __future__ import annotations

import logging
from pathlib import Path

from verl.config.paths import make_paths_absolute
from verl.config.sft import SFTConfig
from verl.config.validation import to_dataclass
from verl.single_controller.resource_pool import RayResourcePool
from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup
from verl.trainer.cluster import ray_cluster
from verl.trainer.cluster_device import settle_device
from verl.trainer.launch import compose_config, run_as_command
from verl.trainer.sft.gate import GateError, GateReport
from verl.trainer.sft.worker import SFTWorker
from verl.utils.console import progress_bar
from verl.utils.seeding import seed_everything

logger = logging.getLogger(__name__)
_STEPS_PER_CALL = 10


def run_sft(config: SFTConfig) -> GateReport | None:
    """Fine-tunes and saves; Ray must be up. The gate is asked every ``gate_freq`` steps, to show
    progress, and decides after the last.

    Returns:
        The gate's last report, None without a gate.

    Raises:
        GateError: if the gate has not passed after all steps; nothing is saved.
    """
    trainer = config.trainer
    device = settle_device(trainer.device)
    pool = RayResourcePool([trainer.n_gpus_per_node] * trainer.nnodes, use_gpu=device == "cuda")
    group = RayWorkerGroup(
        pool, {"sft": RayClassWithInit(SFTWorker, config)}, device, trainer.cpu_threads
    )
    try:
        report = _train(config, group)
        if report is not None and not report.passed:
            raise GateError(
                f"after {trainer.steps} steps the model does not pass its gate: "
                f"{_rates(report)}; train longer (more steps) or with another seed"
            )
        Path(trainer.output_dir).parent.mkdir(parents=True, exist_ok=True)
        group["sft"].save(trainer.output_dir)
        return report
    finally:
        group.shutdown()


def _train(config: SFTConfig, group: RayWorkerGroup) -> GateReport | None:
    worker, trainer = group["sft"], config.trainer
    report: GateReport | None = None
    with progress_bar() as progress:
        bar = progress.add_task("fine-tuning", total=trainer.steps)
        step = 0
        while step < trainer.steps:
            next_gate = (step // trainer.gate_freq + 1) * trainer.gate_freq
            count = min(_STEPS_PER_CALL, next_gate - step, trainer.steps - step)
            losses = worker.train_steps(step, count)[0]
            step += count
            progress.update(bar, completed=step, description=f"fine-tuning, loss {losses[-1]:.3f}")
            at_gate = step % trainer.gate_freq == 0 or step == trainer.steps
            if config.gate is not None and at_gate:
                report = worker.ask_gate()[0]
                assert report is not None
                logger.info("step %d: loss %.3f, %s", step, losses[-1], _rates(report))
            elif at_gate:
                logger.info("step %d: loss %.3f", step, losses[-1])
    return report


def _rates(report: GateReport) -> str:
    return ", ".join(f"{name} {rate:.3f}" for name, rate in report.rates.items())


def main(overrides: list[str]) -> None:
    """Composes ``configs/sft_trainer.yaml`` and trains."""
    config = to_dataclass(compose_config("sft_trainer", overrides), SFTConfig)
    make_paths_absolute(config)
    seed_everything(config.trainer.seed)
    with ray_cluster(config.ray, config.trainer.nnodes * config.trainer.n_gpus_per_node):
        run_sft(config)


if __name__ == "__main__":
    run_as_command(main)
