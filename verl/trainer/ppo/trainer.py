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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from verl.trainer.ppo.interruptible_source import InterruptibleSource
from verl.trainer.ppo.metrics import (
    batch_metrics,
    environment_metrics,
    group_metrics,
    reward_metrics,
    timing_metrics,
)
from verl.trainer.ppo.progress import Progress
from verl.trainer.ppo.prompts import NextPrompts, PromptRequests
from verl.trainer.ppo.prompts_under_way import PromptsUnderWay
from verl.trainer.ppo.rollout_log import write_trajectories
from verl.trainer.ppo.run_state import DriverStreams, KLCoefficient, RunIdentity
from verl.trainer.ppo.samples import SampleLog
from verl.trainer.ppo.scored_rollout import ScoredRollout
from verl.trainer.ppo.totals import Kind, Totals
from verl.trainer.ppo.update import (
    ACTOR_COLUMNS,
    CRITIC_COLUMNS,
    OPTIONAL_COLUMNS,
    SCORING_COLUMNS,
    computed_in_balance,
    mini_batches,
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
from verl.trainer.run_files import PROFILE_FOLDER, VALIDATION_FOLDER, trajectories_file
from verl.utils.checkpoints import Checkpoint
from verl.utils.dataset import Datasets, load_tokenizer, pad_token_id
from verl.utils.tracking import METRICS_FILE, Tracking, tolerating

logger = logging.getLogger(__name__)


class RayPPOTrainer:
    """Trains a policy with a task's agent and reward.

    Args:
        config: validated.
        task: brings the agent and the reward.
        data: training and validation rows.
        tracking: where metrics go.

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
        self.seconds: dict[str, float] = {}

    def init_workers(self, start: Checkpoint | None = None, restarts: int = 0) -> None:
        """Starts all processes, which go on from ``start``, for the first time or once more; the
        engine first gets the policy's weights at the first step."""
        self.workers = Workers(self.config, self.total_steps, restarts)
        agent = self.task.agent(self.workers.engine, self.tokenizer)
        self.source = InterruptibleSource(agent, self.interruption)
        self.reward_function = self.task.reward()
        requests = PromptRequests(self.config, self.train_data)
        self.prompts = NextPrompts(requests, self.source)
        if self.config.trainer.async_level:
            self.prompts = PromptsUnderWay(
                requests,
                self.source,
                self.config.data.train_batch_size,
                self.total_steps,
                self.interruption.abandoning,
            )
        self.gatherer = Gatherer(
            self.config,
            self.prompts,
            self.source,
            self.reward_function,
            self.surroundings.stop_reason,
            self.workers.roles.groups,
            pad_token_id(self.tokenizer),
        )
        self.progress = Progress(
            self.config.trainer,
            self.identity,
            self.workers.trained_roles,
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
        progress.begin_training()
        with TrainingDisplay(self.total_steps, self.task.columns, progress.step) as self.display:
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
        first = None if trainer.val_only else progress.first_validation
        seconds = {"train": progress.seconds}
        return TrainingReport(self.output_dir, first, progress.last_validation, seconds)

    def _train(self) -> None:
        """All steps that are left, and what comes after some of them."""
        progress, freq = self.progress, self.config.trainer.save_freq
        try:
            self._validate_if_due()
            for step in range(progress.step + 1, self.total_steps + 1):
                with self.workers.profiled(step, self.output_dir / PROFILE_FOLDER):
                    self._step(step)
                progress.record(step)
                progress.check()
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
        progress.finish()

    def _validate_if_due(self) -> None:
        """Before training, every ``test_freq`` steps, and after the last; unless the process before
        has done so."""
        step, trainer, last = self.progress.step, self.config.trainer, self.progress.last_validation
        regular = trainer.test_freq > 0 and step % trainer.test_freq == 0
        due = regular or step == self.total_steps if step else trainer.val_before_train
        if due and (last is None or last.step != step):
            self._validate(step)

    def _step(self, step: int) -> None:
        """One training step: rollout, reward, log-probs and values, advantages, update, publish."""
        self.seconds = {}
        start = time.monotonic()
        gathered = self._gather(step)
        records = [trajectory.record for trajectory in gathered.trajectories]
        metrics = environment_metrics(records, self.task.agent_metrics) | gathered.counts
        rollout = gathered.rollout
        if rollout is None:
            self._log_skipped(step, metrics, gathered)
            return
        batch = rollout.batch
        metrics |= self._score(step, gathered, rollout)
        with self._timed("log_probs"):
            self._add_log_probs_and_values(batch)
        with self._timed("adv"):
            metrics |= self._add_advantages(batch)
        self.progress.begin_update()
        with self.workers.changing_weights():
            with self._timed("update"):
                metrics |= self._update(batch, step)
            with self._timed("publish_weights"):
                self.workers.publish_weights()
        self._log(step, batch, metrics, gathered.rolled_out, time.monotonic() - start)

    # -- the arrows ------------------------------------------------------------------------

    def _gather(self, step: int) -> Gathered:
        """Rolls out and scores; the engines sleep afterwards, unless nothing is left."""
        gathered = self.gatherer.gather(step)
        self.seconds |= gathered.seconds
        if gathered.rollout is not None:
            self.workers.engine.sleep()
        return gathered

    def _score(self, step: int, gathered: Gathered, rollout: ScoredRollout) -> dict[str, float]:
        batch, reward = rollout.batch, rollout.reward
        self.samples.write(step, rollout.requests, rollout.trajectories, reward)
        add_rewards(batch, rollout.trajectories, reward)
        metrics = reward_metrics(gathered.reward)
        if self.workers.roles.groups:
            metrics |= group_metrics(reward.scores, batch.non_tensor_batch["uid"])
        return metrics

    def _add_log_probs_and_values(self, batch: DataProto) -> None:
        inputs = batch.select(SCORING_COLUMNS, ())
        computations: list[Callable[[DataProto], DataProto]] = []
        if self.config.algorithm.rollout_log_probs_as_old:
            assert batch.batch is not None
            batch.batch["old_log_probs"] = batch.batch["rollout_log_probs"]
        else:
            computations.append(self.workers.actor.compute_log_probs)
        if self.workers.roles.reference:
            computations.append(self.workers.reference.compute_ref_log_probs)
        if self.workers.roles.critic:
            computations.append(self.workers.critic.compute_values)
        for compute in computations:
            batch.union(computed_in_balance(compute, inputs, self.workers.world_size))

    def _add_advantages(self, batch: DataProto) -> dict[str, float]:
        assert batch.batch is not None
        metrics = add_rollout_weights(batch, self.config.algorithm)
        if self.workers.roles.kl_in_reward:
            estimator = self.config.algorithm.kl_penalty
            metrics |= apply_kl_penalty(batch, self.kl_controller, estimator)
        else:
            batch.batch["token_level_rewards"] = batch.batch["token_level_scores"]
        add_advantages(batch, self.config.algorithm)
        return metrics

    def _update(self, batch: DataProto, step: int) -> dict[str, float]:
        actor, critic = self.config.actor_rollout_ref.actor, self.config.critic
        metrics: dict[str, float] = {}
        if self.config.algorithm.mask_truncated:
            whole, batch = len(batch), without_truncated(batch)
            metrics["rollout/truncated_masked"] = float(whole - len(batch))
            if not len(batch):
                return metrics
        if self.workers.roles.critic:
            parts = mini_batches(
                batch.select(CRITIC_COLUMNS, ()),
                critic.ppo_mini_batch_size,
                critic.ppo_epochs,
                critic.shuffle,
                self.rng,
                self.workers.world_size,
            )
            metrics |= run_update(self.workers.critic.update_critic, parts)
            if step <= critic.warmup_steps:
                return metrics
        assert batch.batch is not None
        optional = tuple(name for name in OPTIONAL_COLUMNS if name in batch.batch)
        parts = mini_batches(
            batch.select(ACTOR_COLUMNS + optional, ()),
            actor.ppo_mini_batch_size,
            actor.ppo_epochs,
            actor.shuffle,
            self.rng,
            self.workers.world_size,
        )
        metrics |= run_update(self.workers.actor.update_actor, parts)
        if self.config.algorithm.rollout_log_probs_as_old:
            # The one step's forward pass is the trainer's first over these tokens.
            metrics["rollout/log_prob_gap"] = metrics["actor/log_prob_change"]
        return metrics

    # -- around the arrows -----------------------------------------------------------------

    def _validate(self, step: int) -> None:
        start = time.monotonic()
        rollout = self.config.actor_rollout_ref.rollout
        with self.display.validation(len(self.val_data)) as advance:
            result, trajectories = validate(
                self.val_data,
                self.source,
                self.reward_function,
                rollout.val,
                pad_token_id(self.tokenizer),
                self.config.data.val_batch_size,
                step,
                self.config.trainer.seed,
                on_finished=advance,
            )
        with tolerating(f"the trajectories of the validation at step {step} were not written"):
            path = trajectories_file(self.output_dir / VALIDATION_FOLDER, step)
            requests = validation_requests(self.val_data)
            write_trajectories(path, requests, trajectories, result.columns)
        seconds = time.monotonic() - start
        metrics = validation_metrics(result, self.task.columns) | count_excluded(trajectories)
        metrics |= self._task_metrics(len(trajectories), Kind.VALIDATION) | {
            "timing_s/testing": seconds
        }
        self.progress.note(step, metrics)
        self.display.show_validation(step, metrics, self.totals.describe(metrics), seconds)
        self.progress.record(step, result)

    def _log(
        self,
        step: int,
        batch: DataProto,
        metrics: dict[str, float],
        rolled_out: int,
        total: float,
    ) -> None:
        metrics |= batch_metrics(batch, self.workers.roles.critic)
        metrics |= self._task_metrics(rolled_out, Kind.TRAINING) | self.workers.metrics()
        tokens = metrics["global_seqlen/mean"] * len(batch)
        metrics |= timing_metrics({**self.seconds, "step": total}, tokens)
        self.progress.note(step, metrics)
        self.nonfinite.observe(metrics)
        self.display.show_step(step, metrics, self.totals.describe(metrics), total)
        self.alarms.check(step, metrics)

    def _log_skipped(self, step: int, metrics: dict[str, float], gathered: Gathered) -> None:
        """A step without an update: the rollout's own metrics are all there is."""
        metrics |= self._task_metrics(gathered.rolled_out, Kind.TRAINING) | self.workers.metrics()
        self.progress.note(step, metrics)
        self.display.show_skipped(step, gathered.nothing_left)

    def _task_metrics(self, trajectories: int, kind: Kind) -> dict[str, float]:
        """What the task reports after so many more trajectories, and its totals at the end."""
        metrics = self.reports.metrics()
        return metrics | self.totals.observe(metrics, trajectories, kind)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start

    def shutdown(self) -> None:
        """Ends every process this trainer started."""
        if hasattr(self, "prompts"):
            self.prompts.close()
        if hasattr(self, "workers"):
            self.workers.shutdown()
        if hasattr(self, "progress"):
            self.progress.close()
