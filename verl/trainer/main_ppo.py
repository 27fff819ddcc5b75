"""``python -m verl.trainer.main_ppo [recipe=…] [key=value …]``: PPO or GRPO training."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from verl.trainer.check.plan import PlannedRun
from verl.trainer.check.run_checks import refuse_what_cannot_work
from verl.trainer.cluster import ray_cluster
from verl.trainer.cluster_device import settle_device
from verl.trainer.environment import write_environment
from verl.trainer.launch import load_task_config, run_as_command
from verl.trainer.ppo.interruption import EXIT_INTERRUPTED, StopRequestedError
from verl.trainer.ppo.resume import find_start
from verl.trainer.ppo.run_state import RunIdentity
from verl.trainer.ppo.trainer import RayPPOTrainer
from verl.trainer.run_folder import claim_run_folder
from verl.utils.dataset import load_datasets
from verl.utils.device import require_vllm_build
from verl.utils.redaction import redact
from verl.utils.seeding import seed_everything
from verl.utils.tracking import Tracking

logger = logging.getLogger(__name__)


def main(overrides: list[str]) -> int:
    """Composes, validates, trains, and lets the task make its end table; the exit code."""
    start = time.monotonic()
    task_class, config = load_task_config(overrides)
    trainer_config = config.trainer
    seed_everything(trainer_config.seed)
    output_dir = Path(trainer_config.default_local_dir)
    task = task_class(config)
    surroundings = task.surroundings()
    surroundings.check()
    data = load_datasets(config.data, task.messages, task.check_row)
    plan = PlannedRun.of(config, len(data.train), len(data.validation))
    refuse_what_cannot_work(config, surroundings, plan.steps)
    for line in surroundings.forecast_lines(plan):
        logger.info("%s of this run: %s", line.subject, line.found)
    num_ranks = trainer_config.nnodes * trainer_config.n_gpus_per_node
    models = (config.actor_rollout_ref.model.path, config.critic.model.path)
    identity = RunIdentity.of(config, len(data.train))
    free = task_class.free_config_keys
    with (
        claim_run_folder(
            output_dir, models, lambda: find_start(trainer_config, identity, free)
        ) as start_from,
        ray_cluster(config.ray, num_ranks),
        surroundings.running(),
    ):
        trainer_config.device = settle_device(trainer_config.device)
        require_vllm_build(trainer_config.device)
        surroundings.make_first_policy()
        redacted = redact(asdict(config))
        write_yaml(output_dir / "config.yaml", redacted)
        write_environment(output_dir)
        tracking = Tracking(
            trainer_config.logger,
            output_dir,
            trainer_config.project_name,
            trainer_config.experiment_name,
            redacted,
            start_from,
        )
        trainer = RayPPOTrainer(config, task, data, tracking)
        try:
            trainer.init_workers(start_from)
            logger.info("ready after %.0f s", time.monotonic() - start)
            report = trainer.fit()
        except StopRequestedError as stop:
            logger.warning(
                "interrupted by %s after %d steps, which are saved; the same command goes on "
                "(trainer.resume=auto)",
                *(stop, trainer.progress.step),
            )
            return EXIT_INTERRUPTED
        finally:
            trainer.shutdown()
            tracking.close()
        report.seconds["total"] = time.monotonic() - start
        task.reports().training(report)
        return 0


def write_yaml(path: Path, content: Any) -> None:
    """Writes a config dump."""
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    run_as_command(main)
