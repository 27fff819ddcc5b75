"""``python -m verl.trainer.main_sft [key=value …]``: supervised fine-tuning under FSDP2.

    python -m verl.trainer.main_sft model.path=MODEL 'data.train_files=[chats.parquet]' \\
        trainer.output_dir=FOLDER
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
    progress, and decides after the last.

    Returns:
        The gate's last report, None without a gate.

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
                    f"{_rates(report)}; train longer (more steps) or with another seed"
                )
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
        tracking = Tracking(["jsonl"], folder, "sft", folder.name, content, start)
        try:
            yield tracking, start
        finally:
            tracking.close()


def train(
    config: SFTConfig, worker: Any, tracking: Tracking | None, start: Checkpoint | None
) -> GateReport | None:
    """All steps that are left.

    Args:
        config: of the run; its steps are settled.
        worker: of the group that holds the model.
        tracking: gets each step's metrics; None for none.
        start: the checkpoint that the run goes on from.

    Returns:
        The gate's last report, None without a gate.

    Raises:
        NonFiniteUpdatesError, StopRequestedError: see :func:`run_sft`.
    """
    interruption = Interruption()
    with interruption.watching() if config.trainer.run_dir is not None else nullcontext():
        return _train(config, worker, tracking, start, interruption)


def _train(
    config: SFTConfig,
    worker: Any,
    tracking: Tracking | None,
    start: Checkpoint | None,
    interruption: Interruption,
) -> GateReport | None:
    trainer, steps = config.trainer, config.total_steps
    report: GateReport | None = None
    nonfinite = NonFiniteGuard(trainer.max_nonfinite_steps, "the data")
    step = 0
    if start is not None:
        checkpoints.load(worker, start)
        step = start.step
        logger.info("goes on after step %d of %d", step, steps)
    with progress_bar() as progress:
        bar = progress.add_task("fine-tuning", total=steps, completed=step)
        while step < steps:
            stops = [f * (step // f + 1) for f in _frequencies(config)]
            count = min(_STEPS_PER_CALL, steps - step, *(stop - step for stop in stops))
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
                report = _ask_gate(config, worker, step, loss)
            if step < steps:
                _end_if_told(config, worker, step, interruption, is_saved=saves)
    if report is None and config.gate is not None:  # a run that had come to its end
        report = worker.ask_gate()[0]
    return report


def _end_if_told(
    config: SFTConfig, worker: Any, step: int, interruption: Interruption, is_saved: bool
) -> None:
    try:
        interruption.check()
    except StopRequestedError as stop:
        if not is_saved:
            checkpoints.save(config, worker, step)
        tell_that_it_is_saved(stop, step)
        raise


def _ask_gate(config: SFTConfig, worker: Any, step: int, loss: float) -> GateReport | None:
    if config.gate is None:
        logger.info("step %d: loss %.3f", step, loss)
        return None
    report: GateReport = worker.ask_gate()[0]
    logger.info("step %d: loss %.3f, %s", step, loss, _rates(report))
    return report


def _frequencies(config: SFTConfig) -> list[int]:
    """Of what happens between steps."""
    trainer = config.trainer
    return [f for f in (trainer.gate_freq, trainer.test_freq, trainer.save_freq) if f > 0]


def _is_due(step: int, frequency: int, last: int) -> bool:
    return step == last or (frequency > 0 and step % frequency == 0)


def _rates(report: GateReport) -> str:
    return ", ".join(f"{name} {rate:.3f}" for name, rate in report.rates.items())


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
