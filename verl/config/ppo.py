"""Root config of PPO/GRPO training, without anything a task adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from verl.algorithms import find_algorithm
from verl.config.alarms import AlarmsConfig
from verl.config.algorithm import AlgorithmConfig
from verl.config.model import ActorConfig, CriticConfig, ModelConfig, ReferenceConfig
from verl.config.paths import MODEL, PATH
from verl.config.profiler import ProfilerConfig
from verl.config.rollout import RolloutConfig
from verl.config.saving import AUTO, EXPORTS, KeepBestConfig
from verl.config.validation import (
    NOT_NEGATIVE,
    POSITIVE,
    ConfigError,
    Section,
    one_of,
)


@dataclass
class DataConfig(Section, prefix="data."):
    """Parquet files and length budgets (all in tokens).

    Attributes:
        train_batch_size: prompts per training step.
        val_batch_size: prompts per validation round; None takes all at once.
        train_data_num, val_data_num: keep only so many rows; None keeps all.
        max_prompt_length: the longest context (prompt + response) a turn may start from.
        max_response_length: tokens per generated turn.
        max_start_length: the longest initial prompt.
        max_obs_length: the longest observation.
        shuffle_train_dataloader: reshuffle each epoch, from ``trainer.seed``.
        apply_chat_template_kwargs: variables of the tokenizer's chat template, e.g.
            ``{enable_thinking: false}``.
    """

    train_files: list[str] = MISSING
    val_files: list[str] = MISSING
    prompt_key: str = "prompt"
    train_batch_size: int = field(default=64, metadata=POSITIVE)
    val_batch_size: int | None = field(default=None, metadata=POSITIVE)
    train_data_num: int | None = field(default=None, metadata=POSITIVE)
    val_data_num: int | None = field(default=None, metadata=POSITIVE)
    max_prompt_length: int = field(default=4096, metadata=POSITIVE)
    max_response_length: int = field(default=1024, metadata=POSITIVE)
    max_start_length: int = field(default=2048, metadata=POSITIVE)
    max_obs_length: int = field(default=600, metadata=POSITIVE)
    shuffle_train_dataloader: bool = True
    apply_chat_template_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_start_length > self.max_prompt_length:
            raise ConfigError(
                f"data.max_start_length ({self.max_start_length}) must not exceed "
                f"data.max_prompt_length ({self.max_prompt_length})"
            )


@dataclass
class SamplesConfig(Section, prefix="trainer.samples."):
    """Trajectories of training steps that the run keeps in ``samples/step_N.jsonl``.

    Attributes:
        per_step: how many of each step; 0 keeps none.
        keep_steps: of so many newest steps; older files are removed.
    """

    per_step: int = field(default=4, metadata=NOT_NEGATIVE)
    keep_steps: int = field(default=20, metadata=POSITIVE)


@dataclass
class RanksConfig(Section, prefix="trainer."):
    """One process a GPU, or so many on CPU.

    Attributes:
        nnodes, n_gpus_per_node: worker processes = product; on CPU "gpus" are CPU ranks.
        device: "cpu", "cuda", or "auto": "cuda" where the Ray cluster has a GPU.
        cpu_threads: torch threads of each worker process (CPU).
    """

    nnodes: int = field(default=1, metadata=POSITIVE)
    n_gpus_per_node: int = field(default=1, metadata=POSITIVE)
    device: str = field(default="auto", metadata=one_of("auto", "cpu", "cuda"))
    cpu_threads: int = 1

    @property
    def ranks(self) -> int:
        """Worker processes."""
        return self.nnodes * self.n_gpus_per_node


@dataclass
class TrainerConfig(RanksConfig):
    """The run.

    Attributes:
        total_training_steps: exact number of PPO steps; None runs ``total_epochs``.
        async_level: 0 waits for a step's rollouts before it trains; 1 rolls the prompts of the next
            step out meanwhile, and leaves those that wait for a slow call to it: trajectories are
            up to two updates old, which the importance weights or the ratio must know of.
        save_freq, test_freq: in steps; -1 is never (a final save and validation always happen
            at the end of training).
        max_ckpt_to_keep: after a save only so many checkpoints are kept, the newest; None keeps
            all. With a critic one of a 3B model takes 100 GB, a quarter of which ``save_hf`` adds.
        keep_best: one more checkpoint that is kept, the best by a metric; null keeps none.
        save_hf: which checkpoints hold Hugging Face folders beside the training state: "always",
            "last" (that of the run's end), "never"; main_export makes them later.
        resume: "auto" goes on from the newest checkpoint in the run's folder if that run had not
            reached its end and had this configuration; "never" sets such a run aside and starts
            anew; a folder (of a checkpoint, or of a run) goes on from there.
        max_nonfinite_steps: so many training steps in a row in which a non-finite gradient has
            kept an update from being made end the run; null never does.
        max_restarts: how often the run goes on from its newest checkpoint, with new processes,
            after one of its worker processes has died or failed; 0 ends it then.
        val_only: validate and stop.
        start_timeout_s: how long the worker processes may take to start and load, seconds.
        default_local_dir: where the run writes.
        seed: of everything.
        profiler: traces go into ``profile`` of the run's folder.
    """

    project_name: str = "verl"
    experiment_name: str = "ppo"
    total_epochs: int = field(default=15, metadata=POSITIVE)
    total_training_steps: int | None = field(default=None, metadata=POSITIVE)
    async_level: int = 0
    save_freq: int = -1
    max_ckpt_to_keep: int | None = field(default=None, metadata=POSITIVE)
    keep_best: KeepBestConfig | None = None
    save_hf: str = field(default="always", metadata=one_of(*EXPORTS))
    resume: str = field(default=AUTO, metadata=MODEL)  # a word, or a folder
    max_nonfinite_steps: int | None = field(default=10, metadata=POSITIVE)
    max_restarts: int = field(default=1, metadata=NOT_NEGATIVE)
    test_freq: int = -1
    val_before_train: bool = True
    val_only: bool = False
    start_timeout_s: float = field(default=1800.0, metadata=POSITIVE)
    default_local_dir: str = field(default="outputs/${trainer.experiment_name}", metadata=PATH)
    logger: list[str] = field(
        default_factory=lambda: ["console", "jsonl"],
        metadata=one_of("console", "jsonl", "wandb", "tensorboard"),
    )
    seed: int = 42
    alarms: AlarmsConfig = field(default_factory=AlarmsConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    profiler: ProfilerConfig = field(default_factory=ProfilerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.async_level not in (0, 1):
            raise ConfigError(f"trainer.async_level must be 0 or 1, got {self.async_level}")
        if not self.resume:
            raise ConfigError('trainer.resume must be "auto", "never" or a folder')
        last = max(self.profiler.ranks, default=0)
        if self.profiler.steps and last >= self.ranks:
            raise ConfigError(
                f"trainer.profiler.ranks={last} is none of the {self.ranks} ranks, which count "
                "from 0"
            )


@dataclass
class ActorRolloutRefConfig:
    """Everything about the policy."""

    model: ModelConfig = field(default_factory=ModelConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    ref: ReferenceConfig = field(default_factory=ReferenceConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)


@dataclass
class TaskConfig:
    """What is trained: ``_target_`` names a subclass of :class:`verl.task.Task`."""

    _target_: str = MISSING


@dataclass
class EvaluationConfig(Section, prefix="evaluation."):
    """Scoring a checkpoint (main_generation, main_eval).

    Attributes:
        files: parquet files; null takes data.val_files.
        limit: keep only so many rows; null keeps all.
        model_path: what to score; null takes one of the run's checkpoints.
        checkpoint: which of them, "newest", or "best" by ``trainer.keep_best``.
        n_samples: trajectories per prompt, sampled as ``rollout.val`` says.
        folder: where everything of the evaluation goes.
        resume: keep trajectories that an earlier, equal evaluation left there.
    """

    files: list[str] | None = None
    limit: int | None = field(default=None, metadata=POSITIVE)
    model_path: str | None = field(default=None, metadata=MODEL)
    checkpoint: str = field(default="newest", metadata=one_of("newest", "best"))
    n_samples: int = field(default=1, metadata=POSITIVE)
    folder: str = field(default="${trainer.default_local_dir}/eval", metadata=PATH)
    resume: bool = True


@dataclass
class RayConfig:
    """Which Ray a run uses.

    Attributes:
        address: null joins the cluster that the environment variable ``RAY_ADDRESS`` names (Slurm,
            KubeRay and ``ray job submit`` set it), else starts a Ray for this run alone, also where
            a cluster runs on this node. "local" starts one whatever ``RAY_ADDRESS`` says.
            host:port joins that cluster; this machine must be a node of it. "auto" joins
            ``RAY_ADDRESS`` or the cluster that runs on this node.
        num_cpus: process slots of a Ray of our own; null takes the cores, or the ranks if they are
            more. A cluster that is joined has its own.

    Every node of a cluster sees the project, the models and the run's folder at the same paths (a
    shared file system). A cluster with token authentication wants ``RAY_AUTH_MODE=token``.
    """

    address: str | None = None
    num_cpus: int | None = None


@dataclass
class PPOConfig:
    """Root config; a task subclasses it to add its own groups."""

    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    actor_rollout_ref: ActorRolloutRefConfig = field(default_factory=ActorRolloutRefConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        _check_divisible(self)
        _check_engines(self)
        _check_groups(self)
        _check_on_policy(self)
        _check_async(self)
        if self.evaluation.checkpoint == "best" and self.trainer.keep_best is None:
            raise ConfigError(
                "evaluation.checkpoint=best is the one that trainer.keep_best keeps; set that, or "
                "evaluation.checkpoint=newest"
            )
        self._choose_kl()
        self._choose_horizon()

    @property
    def longest_context(self) -> int:
        """Of the engine, in tokens."""
        return self.actor_rollout_ref.rollout.max_model_len or self.data.max_prompt_length

    @property
    def scored_best(self) -> KeepBestConfig | None:
        """By what the scored checkpoint is the best; None where it is the newest."""
        return self.trainer.keep_best if self.evaluation.checkpoint == "best" else None

    def _choose_kl(self) -> None:
        """Settles where the KL to the reference goes when the user left it open."""
        config, actor = self.algorithm, self.actor_rollout_ref.actor
        in_loss = find_algorithm(config.adv_estimator).kl_in_loss
        if actor.use_kl_loss is None:
            actor.use_kl_loss = in_loss and not config.use_kl_in_reward
        if config.use_kl_in_reward is None:
            config.use_kl_in_reward = not in_loss and not actor.use_kl_loss

    def _choose_horizon(self) -> None:
        """The longest trajectory there can be, where the user names no other."""
        actor = self.actor_rollout_ref.actor
        if actor.needs_horizon and actor.loss_agg_horizon is None:
            actor.loss_agg_horizon = self.data.max_prompt_length


def _check_groups(config: Any) -> None:
    """What compares samples of one prompt needs several."""
    algorithm, n_agent = config.algorithm, config.actor_rollout_ref.rollout.n_agent
    if n_agent >= 2:
        return
    if find_algorithm(algorithm.adv_estimator).needs_groups:
        comparing = f"algorithm.adv_estimator={algorithm.adv_estimator}"
    elif algorithm.filter_groups.enable:
        comparing = "algorithm.filter_groups.enable=true"
    else:
        return
    raise ConfigError(
        f"{comparing} compares samples of one prompt: set "
        f"actor_rollout_ref.rollout.n_agent to 2 or more (8 is usual), got {n_agent}"
    )


def _check_on_policy(config: Any) -> None:
    """The engine's log-probs are those of the policy before the update only in its first step."""
    if not config.algorithm.rollout_log_probs_as_old:
        return
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    samples = config.data.train_batch_size * rollout.n_agent
    if actor.ppo_epochs != 1 or actor.ppo_mini_batch_size != samples:
        raise ConfigError(
            "algorithm.rollout_log_probs_as_old=true wants one optimizer step a rollout: set "
            f"actor_rollout_ref.actor.ppo_epochs=1 (now {actor.ppo_epochs}) and "
            f"actor_rollout_ref.actor.ppo_mini_batch_size={samples} (now "
            f"{actor.ppo_mini_batch_size}), which is data.train_batch_size x rollout.n_agent"
        )
    if rollout.top_p != 1 or rollout.top_k > 0:
        raise ConfigError(
            "algorithm.rollout_log_probs_as_old=true wants log-probs of the full distribution: set "
            f"actor_rollout_ref.rollout.top_p=1 (now {rollout.top_p}) and top_k=-1 (now "
            f"{rollout.top_k})"
        )


def _check_async(config: Any) -> None:
    """Trajectories are older than the policy, and engines generate while the trainer trains."""
    if not config.trainer.async_level:
        return
    algorithm = config.algorithm
    if algorithm.rollout_correction.level is None and not algorithm.rollout_log_probs_as_old:
        raise ConfigError(
            "trainer.async_level=1 learns from trajectories of earlier policies: set "
            "algorithm.rollout_correction.level to token or sequence (now null), or "
            "algorithm.rollout_log_probs_as_old=true"
        )
    if config.actor_rollout_ref.rollout.free_cache_engine:
        raise ConfigError(
            "trainer.async_level=1 generates while the trainer trains, so engines cannot sleep "
            "meanwhile: set actor_rollout_ref.rollout.free_cache_engine=false, with a "
            "rollout.gpu_memory_utilization that leaves the trainer its memory"
        )


def _check_divisible(config: Any) -> None:
    """Batches must split evenly: into mini-batches, and mini-batches over ranks."""
    ranks, actor = config.trainer.ranks, config.actor_rollout_ref.actor
    samples = config.data.train_batch_size * config.actor_rollout_ref.rollout.n_agent
    for key, size in (
        ("actor_rollout_ref.actor.ppo_mini_batch_size", actor.ppo_mini_batch_size),
        ("critic.ppo_mini_batch_size", config.critic.ppo_mini_batch_size),
    ):
        if samples % size:
            raise ConfigError(
                f"data.train_batch_size x rollout.n_agent = {samples} is not divisible by "
                f"{key} = {size}"
            )
        if size % ranks:
            raise ConfigError(f"{key} = {size} is not divisible by the {ranks} ranks")


def _check_engines(config: Any) -> None:
    """On GPUs the engines share those of the trainer, and the GPUs of an engine lie on one node."""
    trainer, rollout = config.trainer, config.actor_rollout_ref.rollout
    rollout.check_device(trainer.device)
    if trainer.device == "cpu":
        return
    size, gpus = rollout.tensor_model_parallel_size, trainer.ranks
    if trainer.n_gpus_per_node % size:
        raise ConfigError(
            f"actor_rollout_ref.rollout.tensor_model_parallel_size={size} does not divide "
            f"trainer.n_gpus_per_node={trainer.n_gpus_per_node}: an engine cannot span nodes"
        )
    if rollout.num_replicas * size > gpus:
        raise ConfigError(
            f"actor_rollout_ref.rollout.num_replicas={rollout.num_replicas} engines of "
            f"tensor_model_parallel_size={size} need {rollout.num_replicas * size} GPUs, and "
            f"trainer.nnodes x trainer.n_gpus_per_node = {gpus}; -1 takes as many as fit"
        )
