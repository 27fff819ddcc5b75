"""A training run from its checks to its end, through the losses of worker processes.

Guarantees: what cannot work is refused before Ray starts; after a loss the run goes on from its
newest checkpoint, with fresh surroundings, as often as it may.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import yaml

from verl.config.ppo import PPOConfig
from verl.forecast import PlannedRun
from verl.task import Task
from verl.trainer.check.run_checks import refuse_what_cannot_work
from verl.trainer.cluster import ray_cluster
from verl.trainer.cluster_device import settle_device
from verl.trainer.environment import write_environment
from verl.trainer.interruption import (
    EXIT_INTERRUPTED,
    StopRequestedError,
    tell_that_it_is_saved,
)
from verl.trainer.ppo.restarts import ProcessLostError, Restarts, noticing_losses
from verl.trainer.ppo.resume import find_start
from verl.trainer.ppo.run_state import RunIdentity
from verl.trainer.ppo.trainer import RayPPOTrainer
from verl.trainer.run_folder import claim_run_folder
from verl.utils.checkpoints import Checkpoint
from verl.utils.dataset import Datasets, load_datasets, load_tokenizer
from verl.utils.device import require_vllm_build
from verl.utils.redaction import redact
from verl.utils.seeding import seed_everything
from verl.utils.tracking import Tracking

logger = logging.getLogger(__name__)


def train(config: PPOConfig, task: Task, start: float) -> int:
    """Checks, trains, and lets the task, which has not run yet, make its end table; the exit code.
    The command was given at ``start``, by ``time.monotonic``.

    Raises:
        UserError: for what cannot work.
    """
    surroundings = task.surroundings()
    surroundings.check()
    data = load_datasets(config.data, task.messages, task.check_row)
    plan = PlannedRun.of(config, len(data.train), len(data.validation))
    refuse_what_cannot_work(config, surroundings, plan.steps)
    # A tokenizer that cannot be used ends the run before Ray starts; the run itself may make it.
    if surroundings.first_policy_config() is None:
        load_tokenizer(config.actor_rollout_ref.model.path)
    for line in surroundings.forecast_lines(plan):
        logger.info("%s of this run: %s", line.subject, line.found)
    identity = RunIdentity.of(config, len(data.train))
    restarts = Restarts(config.trainer)

    def find() -> Checkpoint | None:
        return restarts.start or find_start(config.trainer, identity, task.free_config_keys)

    while True:
        try:
            return _train(config, task, data, find, restarts.taken, start)
        except ProcessLostError as lost:
            restarts.take(lost)
        # The lost one's surroundings have ended, and states are loaded into new ones.
        task = type(task)(config)


def _train(
    config: PPOConfig,
    task: Task,
    data: Datasets,
    find: Callable[[], Checkpoint | None],
    restarts: int,
    began: float,
) -> int:
    """From the checkpoint that ``find`` gives, or the beginning, to the end; the exit code.

    Raises:
        ProcessLostError: if a worker process was lost in training.
    """
    trainer_config, surroundings = config.trainer, task.surroundings()
    seed_everything(trainer_config.seed)
    output_dir = Path(trainer_config.default_local_dir)
    models = (config.actor_rollout_ref.model.path, config.critic.model.path)
    with (
        claim_run_folder(output_dir, models, find) as start_from,
        ray_cluster(config.ray, trainer_config.ranks),
        surroundings.running(),
    ):
        trainer_config.device = settle_device(trainer_config.device)
        require_vllm_build(trainer_config.device)
        surroundings.make_first_policy()
        redacted = redact(asdict(config))
        dump = yaml.safe_dump(redacted, sort_keys=False)
        (output_dir / "config.yaml").write_text(dump, encoding="utf-8")
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
            trainer.init_workers(start_from, restarts)
            logger.info("ready after %.0f s", time.monotonic() - began)
            with noticing_losses():
                report = trainer.fit()
        except StopRequestedError as stop:
            tell_that_it_is_saved(stop, trainer.progress.step)
            return EXIT_INTERRUPTED
        finally:
            trainer.shutdown()
            tracking.close()
        report.seconds["total"] = time.monotonic() - began
        task.reports().training(report)
        return 0
