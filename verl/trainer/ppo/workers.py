"""Builds the worker processes and the engines of a PPO run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from verl.config.ppo import PPOConfig
from verl.single_controller.rank_device import RankDevice
from verl.single_controller.resource_pool import RayResourcePool
from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup
from verl.trainer.roles import Roles
from verl.workers.fsdp.actor import ActorWorker, ReferenceWorker
from verl.workers.fsdp.critic import CriticWorker
from verl.workers.rollout.publish import publish_weights, refresh_weights
from verl.workers.rollout.replicas import RolloutReplicas

logger = logging.getLogger(__name__)


class Workers:
    """The processes of a run: policy, reference and critic in one group, engines beside it.

    Args:
        config: of the run; its ``trainer.device`` is settled, "cpu" or "cuda".
        training_steps: PPO steps, for the learning-rate schedules.
        restarts: how often the run has had to start its processes again.

    Attributes:
        actor, critic: handles of policy and value model; None for one that is not there.
        reference: the handle of who gives the reference's log-probs.
        trained: the handles of actor and, if there is one, critic, by name.
        world_size: ranks that share a mini-batch.
    """

    def __init__(self, config: PPOConfig, training_steps: int, restarts: int = 0) -> None:
        self.roles = Roles.of(config)
        self._restarts = restarts
        self._profiler = config.trainer.profiler
        trainer, on_cuda = config.trainer, config.trainer.device == "cuda"
        pool = RayResourcePool([trainer.n_gpus_per_node] * trainer.nnodes, use_gpu=on_cuda)
        if on_cuda:
            self._group = _start_group(config, pool, self.roles, training_steps)
            self.engine = _start_engines(config, self._group.devices)
        else:
            # The engines share nothing with the workers: they start at once, while those load.
            self.engine = _start_engines(config, pool.reserved_ranks())
            self._group = _start_group(config, pool, self.roles, training_steps)
        self.engine.wait_until_ready()
        self.engine.sleep()
        self.world_size = self._group.world_size
        self.actor: Any = self._group["actor"]
        self.critic: Any = self._group["critic"] if self.roles.critic else None
        self.reference = self._group["reference"] if self.roles.reference_worker else self.actor
        self.trained: dict[str, Any] = {"actor": self.actor}
        if self.roles.critic:
            self.trained["critic"] = self.critic
        self.engine.refresh = partial(refresh_weights, self.actor)

    @contextmanager
    def profiled(self, step: int, folder: Path) -> Iterator[None]:
        """Traces the block's work in the worker processes, where the configuration names the step;
        traces go into ``folder``."""
        if step not in self._profiler.steps:
            yield
            return
        self.actor.start_profiler(self._profiler.ranks)
        yield
        self.actor.stop_profiler(str(folder), f"step_{step}")
        logger.info("step %d was profiled: %s", step, folder)

    def publish_weights(self) -> None:
        """The engines take over the policy's present weights and are awake afterwards."""
        publish_weights(self.actor, self.engine)
        self.engine.end_sessions()

    def metrics(self) -> dict[str, float]:
        """How often the run has started its processes again; and engines alone, since then."""
        return {
            "trainer/restarts": float(self._restarts),
            "rollout/engine_restarts": float(self.engine.restarts),
        }

    def shutdown(self) -> None:
        """Ends every process."""
        self.engine.shutdown()
        self._group.shutdown()


def _start_engines(config: PPOConfig, ranks: list[RankDevice]) -> RolloutReplicas:
    policy, trainer = config.actor_rollout_ref, config.trainer
    return RolloutReplicas(
        policy.rollout,
        policy.model.path,
        trainer.device,
        config.longest_context,
        trainer.seed,
        ranks,
    )


def _start_group(
    config: PPOConfig, pool: RayResourcePool, roles: Roles, training_steps: int
) -> RayWorkerGroup:
    policy, trainer = config.actor_rollout_ref, config.trainer
    temperature = policy.rollout.temperature
    samples = config.data.train_batch_size * policy.rollout.n_agent
    learning = training_steps - (config.critic.warmup_steps if roles.critic else 0)
    actor_steps = learning * policy.actor.ppo_epochs * (samples // policy.actor.ppo_mini_batch_size)
    classes = {
        "actor": RayClassWithInit(ActorWorker, policy.model, policy.actor, temperature, actor_steps)
    }
    if roles.reference_worker:
        classes["reference"] = RayClassWithInit(
            ReferenceWorker, policy.model, policy.actor, policy.ref, temperature
        )
    if roles.critic:
        critic = config.critic
        critic_steps = training_steps * critic.ppo_epochs * (samples // critic.ppo_mini_batch_size)
        classes["critic"] = RayClassWithInit(CriticWorker, critic, critic_steps)
    logger.info("starting %d %s ranks: %s", pool.world_size, trainer.device, ", ".join(classes))
    return RayWorkerGroup(
        pool, classes, trainer.device, trainer.cpu_threads, trainer.start_timeout_s
    )
