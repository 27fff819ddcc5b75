"""The training loop of every algorithm.

Guarantees: exactly ``total_training_steps`` steps, each on ``train_batch_size * n_agent``
trajectories less those that take no part (see :mod:`verl.trainer.ppo.gathering`); a step that has
none left changes no weights and says so; a final validation and a final save whatever the
frequencies; a run that ends before its last step leaves a checkpoint of the last whole step,
wherever the workers still hold that; a run that goes on from a checkpoint is the run that was not
interrupted, or loses no row where rollouts go on while it trains; the loop knows nothing of the
task but its rollout source and reward function, and does not know whether they do
(:mod:`verl.trainer.ppo.prompts_under_way`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from verl.config.ppo import PPOConfig
from verl.forecast import PlannedRun
from verl.protocol import DataProto
from verl.task import Task, TrainingReport
from verl.trainer.interruption import Interruption, StopRequestedError
from verl.trainer.nonfinite import NonFiniteGuard
from verl.trainer.ppo.advantage import (
    add_advantages,
    add_rewards,
    add_rollout_weights,
    apply_kl_penalty,
    make_kl_controller,
)
from verl.trainer.ppo.alarms import Alarms
from verl.trainer.ppo.display import TrainingDisplay
from verl.trainer.ppo.gathering import Gathered, Gatherer, TrainingStoppedError
from verl.trainer.ppo.metrics import (
    batch_metrics,
    environment_metrics,
    group_metrics,
    reward_metrics,
    timed,
    timing_metrics,
)
from verl.trainer.ppo.progress import Progress
from verl.trainer.ppo.prompts import InterruptibleSource, NextPrompts, PromptRequests
from verl.trainer.ppo.prompts_under_way import PromptsUnderWay
from verl.trainer.ppo.rollout_log import SampleLog, write_trajectories
from verl.trainer.ppo.run_state import DriverStreams, KLCoefficient, RunIdentity
from verl.trainer.ppo.scored_rollout import ScoredRollout
from verl.trainer.ppo.totals import Kind, Totals
from verl.trainer.ppo.update import (
    ACTOR_COLUMNS,
    CRITIC_COLUMNS,
    OPTIONAL_COLUMNS,
    SCORING_COLUMNS,
    computed_in_balance,
    run_update,
    without_truncated,
)
from verl.trainer.ppo.validation import (
    count_excluded,
    validate,
    validation_metrics,
    validation_requests,
)
from verl.trainer.ppo.workers import Workers
from verl.trainer.run_folder import PROFILE_FOLDER, VALIDATION_FOLDER, trajectories_file
from verl.utils.checkpoints import Checkpoint
from verl.utils.dataset import Datasets, load_tokenizer, pad_token_id
from verl.utils.tracking import METRICS_FILE, Tracking, tolerating

logger = logging.getLogger(__name__)


class RayPPOTrainer:
    """Trains a policy with a task's agent and reward.

    Raises:
        DataError: if the tokenizer has no chat template or a prompt is too long; before any
            process starts.
    """

    def __init__(self, config: PPOConfig, task: Task, data: Datasets, tracking: Tracking) -> None:
        self.config = config
        self.task = task
        self.surroundings, self.reports = task.surroundings(), task.reports()
        self.tracking = tracking
        self.output_dir = Path(config.trainer.default_local_dir)
        self.tokenizer = load_tokenizer(config.actor_rollout_ref.model.path)
        self.pad_token_id = pad_token_id(self.tokenizer)
        self.train_data, self.val_data = data.train, data.validation
        for dataset in (self.train_data, self.val_data):
            dataset.check_lengths(
                self.tokenizer,
                config.data.max_start_length,
                config.data.apply_chat_template_kwargs,
            )
        trainer = config.trainer
        self.identity = RunIdentity.of(config, len(self.train_data))
        self.total_steps = self.identity.total_steps
        plan = PlannedRun.of(config, len(self.train_data), len(self.val_data))
        planned = {Kind.TRAINING: plan.training or 0, Kind.VALIDATION: plan.validation or 0}
        self.totals = Totals(self.reports.running_totals(), planned)
        self.samples = SampleLog(self.output_dir, trainer.samples)
        self.rng = np.random.default_rng(trainer.seed)
        self.alarms = Alarms(trainer.alarms, self.reports.alarm_rules())
        self.kl_controller = make_kl_controller(config.algorithm)
        self.nonfinite = NonFiniteGuard(
            trainer.max_nonfinite_steps, "the rewards and at actor/grad_norm"
        )
        self.interruption = Interruption()

    def init_workers(self, start: Checkpoint | None = None, restarts: int = 0) -> None:
        """Starts all processes, which go on from ``start``, for the first time or once more; the
        engine first gets the policy's weights at the first step."""
        config = self.config
        self.workers = Workers(config, self.total_steps, restarts)
        agent = self.task.agent(self.workers.engine, self.tokenizer)
        self.source = InterruptibleSource(agent, self.interruption)
        self.reward_function = self.task.reward()
        requests = PromptRequests(config, self.train_data)
        self.prompts = NextPrompts(requests, self.source)
        if config.trainer.async_level:
            self.prompts = PromptsUnderWay(
                requests,
                self.source,
                config.data.train_batch_size,
                self.total_steps,
                self.interruption.abandoning,
            )
        self.gatherer = Gatherer(
            config,
            self.prompts,
            self.source,
            self.reward_function,
            self.surroundings.stop_reason,
            self.pad_token_id,
        )
        self.progress = Progress(
            config.trainer,
            self.identity,
            self.workers.trained,
            {
                "alarms": self.alarms,
                "kl": KLCoefficient(self.kl_controller),
                "nonfinite": self.nonfinite,
                "rows": self.prompts,
                "streams": DriverStreams(self.rng),
                "totals": self.totals,
            },
            self.surroundings,
            self.reward_function,
            self.tracking,
            start,
        )

    def fit(self) -> TrainingReport:
        """Trains; returns what the end table is made of.

        Raises:
            StopRequestedError: if a signal ended the run; it is saved.
        """
        trainer, progress = self.config.trainer, self.progress
        self.display = TrainingDisplay(self.total_steps, self.task.columns, progress.step)
        with self.display.bar:
            self.workers.publish_weights()
            if trainer.val_only:
                self._validate(step=0)
            else:
                with self.interruption.watching():
                    self._train()
        if not trainer.val_only and "jsonl" in trainer.logger:
            with tolerating("curves.png was not drawn"):
                from verl.utils.plots import save_curves  # takes a second to import

                metrics_file, image = self.output_dir / METRICS_FILE, self.output_dir / "curves.png"
                save_curves(metrics_file, self.reports.charts(), image)
        first = None if trainer.val_only else progress.state.first
        seconds = {"train": progress.seconds}
        return TrainingReport(self.output_dir, first, progress.state.last, seconds)

    def _train(self) -> None:
        """All steps that are left, and what comes after some of them."""
        progress, freq = self.progress, self.config.trainer.save_freq
        try:
            self._validate_if_due()
            for step in range(progress.step + 1, self.total_steps + 1):
                with self.workers.profiled(step, self.output_dir / PROFILE_FOLDER):
                    self._step(step)
                progress.record(step)
                progress.saver.check()
                self.nonfinite.check()
                self.interruption.check()
                self._validate_if_due()
                if freq > 0 and step % freq == 0:
                    progress.save()
            progress.save()
        except TrainingStoppedError as stop:
            logger.warning("stopped after %d steps: %s", progress.step, stop)
            progress.save()
        except StopRequestedError:
            if not progress.step:  # there is nothing to save
                raise KeyboardInterrupt from None
            progress.save_and_wait()
            raise
        except Exception as error:
            progress.save_what_is_left(error)
            raise
        progress.saver.finish()

    def _step(self, step: int) -> None:
        """One training step: rollout, reward, log-probs and values, advantages, update, publish."""
        start = time.monotonic()
        gathered = self.gatherer.gather(step)
        records = [trajectory.record for trajectory in gathered.trajectories]
        metrics = environment_metrics(records, self.task.agent_metrics) | gathered.counts
        rollout, seconds = gathered.rollout, gathered.seconds
        if rollout is None:
            metrics |= self.workers.metrics()
            self._note(step, metrics, gathered.rolled_out, Kind.TRAINING)
            self.display.show_skipped(step, gathered.nothing_left)
            return
        self.workers.engine.sleep()
        batch = rollout.batch
        metrics |= self._score(step, gathered, rollout)
        with timed(seconds, "log_probs"):
            self._add_log_probs_and_values(batch)
        with timed(seconds, "adv"):
            metrics |= self._add_advantages(batch)
        self.progress.begin_update()
        # An engine that is started again meanwhile gets what comes of the update.
        with self.workers.engine.weights_lock:
            with timed(seconds, "update"):
                metrics |= self._update(batch, step)
            with timed(seconds, "publish_weights"):
                self.workers.publish_weights()
        seconds["step"] = time.monotonic() - start
        metrics |= batch_metrics(batch, self.workers.roles.critic) | self.workers.metrics()
        metrics |= timing_metrics(seconds, metrics["global_seqlen/mean"] * len(batch))
        self._note(step, metrics, gathered.rolled_out, Kind.TRAINING)
        self.nonfinite.observe(metrics)
        self.display.show_step(step, metrics, self.totals.describe(metrics), seconds["step"])
        self.alarms.check(step, metrics)

    # -- the arrows ------------------------------------------------------------------------

    def _score(self, step: int, gathered: Gathered, rollout: ScoredRollout) -> dict[str, float]:
        batch, reward = rollout.batch, rollout.reward
        self.samples.write(step, rollout)
        add_rewards(batch, rollout.trajectories, reward)
        metrics = reward_metrics(gathered.reward)
        if self.workers.roles.groups:
            metrics |= group_metrics(reward.scores, batch.non_tensor_batch["uid"])
        return metrics

    def _add_log_probs_and_values(self, batch: DataProto) -> None:
        inputs, workers = batch.select(SCORING_COLUMNS, ()), self.workers
        computations: list[Callable[[DataProto], DataProto]] = []
        if self.config.algorithm.rollout_log_probs_as_old:
            batch.tensors["old_log_probs"] = batch.tensors["rollout_log_probs"]
        else:
            computations.append(workers.actor.compute_log_probs)
        if workers.roles.reference:
            computations.append(workers.reference.compute_ref_log_probs)
        if workers.roles.critic:
            computations.append(workers.critic.compute_values)
        for compute in computations:
            batch.union(computed_in_balance(compute, inputs, workers.world_size))

    def _add_advantages(self, batch: DataProto) -> dict[str, float]:
        metrics = add_rollout_weights(batch, self.config.algorithm)
        if self.workers.roles.kl_in_reward:
            estimator = self.config.algorithm.kl_penalty
            metrics |= apply_kl_penalty(batch, self.kl_controller, estimator)
        else:
            batch.tensors["token_level_rewards"] = batch.tensors["token_level_scores"]
        add_advantages(batch, self.config.algorithm)
        return metrics

    def _update(self, batch: DataProto, step: int) -> dict[str, float]:
        config, workers = self.config, self.workers
        metrics: dict[str, float] = {}
        if config.algorithm.mask_truncated:
            whole, batch = len(batch), without_truncated(batch)
            metrics["rollout/truncated_masked"] = float(whole - len(batch))
            if not len(batch):
                return metrics
        if workers.roles.critic:
            inputs, update = batch.select(CRITIC_COLUMNS, ()), workers.critic.update_critic
            metrics |= run_update(update, inputs, config.critic, self.rng, workers.world_size)
            if step <= config.critic.warmup_steps:
                return metrics
        optional = tuple(name for name in OPTIONAL_COLUMNS if name in batch.tensors)
        inputs, update = batch.select(ACTOR_COLUMNS + optional, ()), workers.actor.update_actor
        actor = config.actor_rollout_ref.actor
        metrics |= run_update(update, inputs, actor, self.rng, workers.world_size)
        if config.algorithm.rollout_log_probs_as_old:
            # The one step's forward pass is the trainer's first over these tokens.
            metrics["rollout/log_prob_gap"] = metrics["actor/log_prob_change"]
        return metrics

    # -- around the arrows -----------------------------------------------------------------

    def _validate_if_due(self) -> None:
        """Before training, every ``test_freq`` steps, and after the last; unless the process before
        has done so."""
        step, trainer, last = self.progress.step, self.config.trainer, self.progress.state.last
        regular = trainer.test_freq > 0 and step % trainer.test_freq == 0
        due = regular or step == self.total_steps if step else trainer.val_before_train
        if due and (last is None or last.step != step):
            self._validate(step)

    def _validate(self, step: int) -> None:
        start = time.monotonic()
        requests = validation_requests(self.val_data)
        with self.display.validation(len(requests)) as advance:
            result, trajectories = validate(
                self.config,
                requests,
                self.source,
                self.reward_function,
                self.pad_token_id,
                step,
                on_finished=advance,
            )
        with tolerating(f"the trajectories of the validation at step {step} were not written"):
            path = trajectories_file(self.output_dir / VALIDATION_FOLDER, step)
            write_trajectories(path, requests, trajectories, result.columns)
        seconds = time.monotonic() - start
        metrics = validation_metrics(result, self.task.columns) | count_excluded(trajectories)
        metrics["timing_s/testing"] = seconds
        self._note(step, metrics, len(trajectories), Kind.VALIDATION)
        self.display.show_validation(step, metrics, self.totals.describe(metrics), seconds)
        self.progress.record(step, result)

    def _note(self, step: int, metrics: dict[str, float], trajectories: int, kind: Kind) -> None:
        """Gives the metrics to who keeps them, once what the task reports after so many more
        trajectories, and its totals at the end, are among them."""
        reported = self.reports.metrics()
        metrics |= reported | self.totals.observe(reported, trajectories, kind)
        self.progress.note(step, metrics)

    def shutdown(self) -> None:
        """Ends every process this trainer started."""
        if hasattr(self, "prompts"):
            self.prompts.close()
        if hasattr(self, "workers"):
            self.workers.shutdown()
        if hasattr(self, "progress"):
            self.progress.close()
