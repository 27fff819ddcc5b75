"""``python -m verl.trainer.main_sft [key=value …]``: supervised fine-tuning under FSDP2.

    python -m verl.trainer.main_sft model.path=MODEL 'data.train_files=[chats.parquet]' \\
        trainer.output_dir=FOLDER
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from verl.config.paths import make_paths_absolute
from verl.config.sft import SFTConfig
from verl.config.validation import to_dataclass
from verl.single_controller.resource_pool import RayResourcePool
from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup
from verl.trainer.cluster import ray_cluster
from verl.trainer.cluster_device import settle_device
from verl.trainer.environment import write_environment
from verl.trainer.interruption import (
    EXIT_INTERRUPTED,
    Interruption,
    StopRequestedError,
    tell_that_it_is_saved,
)
from verl.trainer.launch import compose_config, run_as_command
from verl.trainer.nonfinite import NonFiniteGuard
from verl.trainer.run_folder import claim_run_folder
from verl.trainer.sft import checkpoints
from verl.trainer.sft.examples import settle
from verl.trainer.sft.gate import GateError, GateReport
from verl.trainer.sft.worker import SFTWorker
from verl.utils.checkpoints import Checkpoint
from verl.utils.console import progress_bar
from verl.utils.files import write_text
from verl.utils.redaction import redact
from verl.utils.seeding import seed_everything
from verl.utils.tracking import Tracking

logger = logging.getLogger(__name__)
_STEPS_PER_CALL = 10


def run_sft(config: SFTConfig) -> GateReport | None:
    """Fine-tunes and saves; Ray must be up. The gate is asked every ``gate_freq`` steps, to show
    progress, and decides after the last; returns its last report, None without a gate.

    Raises:
        DataError: for data files that cannot be used; before a process starts.
        GateError: if the gate has not passed after all steps; nothing is saved.
        NonFiniteUpdatesError: after ``max_nonfinite_steps`` steps in a row without an update.
        StopRequestedError: if a signal has ended it; the steps done are saved in
            ``trainer.run_dir``. Without that folder a signal ends it as it ends any process.
    """
    trainer = config.trainer
    settle(config)
    device = settle_device(trainer.device)
    with run_folder(config) as (tracking, start):
        pool = RayResourcePool([trainer.n_gpus_per_node] * trainer.nnodes, use_gpu=device == "cuda")
        roles = {"sft": RayClassWithInit(SFTWorker, config)}
        group = RayWorkerGroup(pool, roles, device, trainer.cpu_threads)
        try:
            report = train(config, group["sft"], tracking, start)
            if report is not None and not report.passed:
                raise GateError(
                    f"after {trainer.steps} steps the model does not pass its gate: "
                    f"{report}; train longer (more steps) or with another seed"
                )
            # Here, since an error of the driver's is told in a line.
            Path(trainer.output_dir).parent.mkdir(parents=True, exist_ok=True)
            group["sft"].save_checkpoint(trainer.output_dir)
            logger.info("the model is in %s", trainer.output_dir)
            return report
        finally:
            group.shutdown()


@contextmanager
def run_folder(config: SFTConfig) -> Iterator[tuple[Tracking | None, Checkpoint | None]]:
    """``trainer.run_dir``, claimed: where metrics go, and the checkpoint to go on from."""
    if config.trainer.run_dir is None:
        yield None, None
        return
    folder = Path(config.trainer.run_dir)
    inputs = (config.model.path, *config.data.train_files, *config.data.val_files)
    with claim_run_folder(folder, inputs, lambda: checkpoints.find_start(config)) as start:
        content = redact(asdict(config))
        write_text(folder / "config.yaml", yaml.safe_dump(content, sort_keys=False))
        write_environment(folder)
        with closing(Tracking(["jsonl"], folder, "sft", folder.name, content, start)) as tracking:
            yield tracking, start


def train(
    config: SFTConfig, worker: Any, tracking: Tracking | None, start: Checkpoint | None
) -> GateReport | None:
    """All steps that are left, by a group's role of :class:`SFTWorker`; returns the gate's last
    report, None without a gate.

    Raises:
        NonFiniteUpdatesError, StopRequestedError: see :func:`run_sft`.
    """
    trainer, steps = config.trainer, config.total_steps
    frequencies = [f for f in (trainer.gate_freq, trainer.test_freq, trainer.save_freq) if f > 0]
    interruption = Interruption()
    watching = interruption.watching() if trainer.run_dir is not None else nullcontext()
    nonfinite = NonFiniteGuard(trainer.max_nonfinite_steps, "the data")
    report: GateReport | None = None
    step = 0
    with watching, progress_bar() as progress:
        if start is not None:
            worker.load_state(str(start.state(checkpoints.ROLE)))
            step = start.step
            logger.info("goes on after step %d of %d", step, steps)
        bar = progress.add_task("fine-tuning", total=steps, completed=step)
        while step < steps:
            count = min(_STEPS_PER_CALL, steps - step, *(f - step % f for f in frequencies))
            metrics: list[dict[str, float]] = worker.train_steps(step, count)[0]
            loss = metrics[-1]["train/loss"]
            step += count
            progress.update(bar, completed=step, description=f"fine-tuning, loss {loss:.3f}")
            if config.data.val_files and _is_due(step, trainer.test_freq, steps):
                metrics[-1]["val/loss"] = worker.validation_loss()[0]
                logger.info("step %d: validation loss %.3f", step, metrics[-1]["val/loss"])
            if tracking is not None:
                for number, of_step in enumerate(metrics, start=step - count + 1):
                    tracking.log(of_step, number)
            for of_step in metrics:
                nonfinite.observe(of_step)
                nonfinite.check()
            saves = trainer.save_freq > 0 and _is_due(step, trainer.save_freq, steps)
            if saves:
                checkpoints.save(config, worker, step)
            if _is_due(step, trainer.gate_freq, steps):
                report = worker.ask_gate()[0] if config.gate is not None else None
                told = "" if report is None else f", {report}"
                logger.info("step %d: loss %.3f%s", step, loss, told)
            try:
                if step < steps:
                    interruption.check()
            except StopRequestedError as stop:
                if not saves:
                    checkpoints.save(config, worker, step)
                tell_that_it_is_saved(stop, step)
                raise
        if report is None and config.gate is not None:  # a run that had come to its end
            report = worker.ask_gate()[0]
    return report


def _is_due(step: int, frequency: int, last: int) -> bool:
    return step == last or (frequency > 0 and step % frequency == 0)


def main(overrides: list[str]) -> int:
    """Composes ``configs/sft_trainer.yaml`` and trains; the exit code."""
    config = to_dataclass(compose_config("sft_trainer", overrides), SFTConfig)
    make_paths_absolute(config)
    seed_everything(config.trainer.seed)
    with ray_cluster(config.ray, config.trainer.ranks):
        try:
            run_sft(config)
        except StopRequestedError:
            return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    run_as_command(main)
