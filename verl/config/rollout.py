"""Config of the rollout engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from verl.config.sampling import Sampling
from verl.config.validation import (
    NOT_NEGATIVE,
    POSITIVE,
    ConfigError,
    one_of,
)

# What generates in this process: vLLM, or transformers for a tiny model.
ENGINES = ("vllm", "hf")


@dataclass
class RolloutConfig(Sampling, prefix="rollout."):
    """The vLLM engine, and how training samples.

    Attributes:
        tensor_model_parallel_size: GPUs of one engine; they lie on one node.
        num_replicas: engines; -1 takes one per ``tensor_model_parallel_size`` of the trainer's
            GPUs, in an evaluation of the GPUs that are free (one on CPU).
        gpu_memory_utilization: share of GPU memory for the engine (CUDA).
        cpu_kv_cache_gib: KV-cache size (CPU), GiB.
        cpu_threads: OpenMP threads of one engine (CPU).
        max_model_len: longest context in tokens; None takes data.max_prompt_length.
        max_num_seqs: sequences decoded together.
        inline_engine: step an engine in the process that asks it (training's Ray actor; ask, serve)
            instead of one or two of its own. It starts in half the time and a step has no hop, but
            what the process does beside waits for the interpreter: for small models; engines of one
            rank only.
        start_timeout_s: how long the engines may take to start, seconds.
        generation_timeout_s: an engine that has generations under way and ends none of them for so
            many seconds hangs, and is started again; null waits without limit.
        max_restarts: how often engines that died or hang are started again in a run, all together;
            their generations are asked for again. 0 ends the run with the first.
        free_cache_engine: put the engine to sleep while the trainer uses the GPU (CUDA).
        update_weights_bucket_megabytes: weights reach the engine in pieces of so many MiB, two of
            which are held at a time; a larger tensor is a piece of its own.
        n_agent: trajectories sampled per training prompt.
    """

    temperature: float = field(default=1.0, metadata=POSITIVE)
    name: str = field(default="vllm", metadata=one_of("vllm"))
    dtype: str = field(default="bfloat16", metadata=one_of("float32", "bfloat16"))
    tensor_model_parallel_size: int = field(default=1, metadata=POSITIVE)
    num_replicas: int = -1
    gpu_memory_utilization: float = 0.6
    cpu_kv_cache_gib: int = 1
    cpu_threads: int = 1
    max_model_len: int | None = None
    max_num_seqs: int = field(default=256, metadata=POSITIVE)
    enforce_eager: bool = False
    inline_engine: bool = False
    start_timeout_s: float = field(default=1800.0, metadata=POSITIVE)
    generation_timeout_s: float | None = field(default=1800.0, metadata=POSITIVE)
    max_restarts: int = field(default=10, metadata=NOT_NEGATIVE)
    free_cache_engine: bool = True
    update_weights_bucket_megabytes: int = field(default=512, metadata=POSITIVE)
    n_agent: int = field(default=1, metadata=POSITIVE)
    val: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_replicas < 1 and self.num_replicas != -1:
            raise ConfigError(f"rollout.num_replicas must be > 0 or -1, got {self.num_replicas}")

    def check_device(self, device: str) -> None:
        """Raises :class:`ConfigError` for what cannot run on ``device``, and with "auto" for what
        can run on none."""
        size = self.tensor_model_parallel_size
        if device == "cpu" and size > 1:
            raise ConfigError(
                f"actor_rollout_ref.rollout.tensor_model_parallel_size={size} is for GPUs; on CPU "
                "set it to 1 and give an engine more threads with rollout.cpu_threads"
            )
        if self.inline_engine and size > 1:
            raise ConfigError(
                "actor_rollout_ref.rollout.inline_engine=true is for engines of one rank, and "
                f"actor_rollout_ref.rollout.tensor_model_parallel_size={size}; set one of them to "
                "its default"
            )
