"""One vLLM engine, in a Ray actor or in this process: token ids in, ids and log-probs out.

Guarantees: the ids returned are those the engine sampled, with their log-probs under the full
distribution at the given temperature; after :meth:`finish_weight_update` no cached state of the old
weights is used.
"""

from __future__ import annotations

import math
import os
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from transformers import AutoTokenizer

from verl.config.rollout import RolloutConfig
from verl.interfaces import GenerationOutput, OnTokens, SamplingParams
from verl.utils.garbage import spare_the_collector
from verl.utils.generation_config import end_of_turn_ids
from verl.utils.surroundings import MIB, free_shared_memory, require_shared_memory
from verl.utils.unused_libraries import not_found
from verl.workers.rollout.inline_engine import InlineEngine
from verl.workers.weight_transfer.buckets import BACKEND

# Prefill of one engine step on CPU, in tokens: as fast as chunks of it (measured), bounded memory.
_CPU_BATCHED_TOKENS = 16384
# The larger of vLLM's two queues, of which it wants the whole size free: ten chunks of 24 MiB.
_QUEUES_BYTES = 240 * MIB


@dataclass(frozen=True)
class ReplicaSettings:
    """What one engine is started with; ``sleep``: it may be put to sleep."""

    config: RolloutConfig
    model_path: str
    device: str
    max_model_len: int
    seed: int
    sleep: bool
    end_ids: tuple[int, ...]

    @classmethod
    def from_config(
        cls,
        config: RolloutConfig,
        model_path: str,
        device: str,
        max_model_len: int,
        seed: int,
        sleep: bool,
    ) -> Self:
        """Settings of an engine that holds ``model_path``.

        Raises:
            ConfigError: if the model's generation config cannot be used, or the engine cannot run
                on ``device``.
        """
        config.check_device(device)
        end_ids = end_of_turn_ids(model_path, AutoTokenizer.from_pretrained(model_path))
        return cls(config, model_path, device, max_model_len, seed, sleep, end_ids)


def engine_arguments(settings: ReplicaSettings) -> dict[str, Any]:
    """Arguments of vLLM's ``EngineArgs`` and ``AsyncEngineArgs``."""
    config = settings.config
    arguments: dict[str, Any] = {
        "model": settings.model_path,
        "dtype": config.dtype,
        "tensor_parallel_size": config.tensor_model_parallel_size,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "enforce_eager": config.enforce_eager,
        "enable_prefix_caching": True,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "seed": settings.seed,
        "worker_extension_cls": "verl.workers.weight_transfer.vllm_receiver.WorkerExtension",
        "weight_transfer_config": {"backend": BACKEND},
    }
    if config.tensor_model_parallel_size > 1:
        # In an actor vLLM would choose Ray, and wait for GPUs that the trainer's processes hold.
        arguments["distributed_executor_backend"] = "mp"
    if settings.device == "cpu":
        # A seeded request whose prefill is cut into chunks kills vLLM's CPU engine (it rewinds the
        # request's generator, which CPU generators cannot). Without chunking a prompt waits for a
        # step with room for all of it, and a step has room for the longest context.
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(
            settings.max_model_len,
            min(_CPU_BATCHED_TOKENS, config.max_num_seqs * settings.max_model_len),
        )
    else:
        arguments["gpu_memory_utilization"] = config.gpu_memory_utilization
        arguments["enable_sleep_mode"] = settings.sleep
    return arguments


def shared_memory_needed(settings: ReplicaSettings) -> int:
    """Bytes of ``/dev/shm`` for the queues between an engine's processes; 0 if it has one only."""
    one_worker = settings.config.tensor_model_parallel_size == 1
    in_one_process = one_worker and (settings.config.inline_engine or settings.device == "cuda")
    return 0 if in_one_process else _QUEUES_BYTES


class VLLMReplica:
    """The actor class, usable without Ray too; methods are coroutines, many run at once."""

    def __init__(self, settings: ReplicaSettings) -> None:
        self._settings = settings
        require_shared_memory(free_shared_memory(), shared_memory_needed(settings))
        self._set_environment()
        self._engine = _start_engine(settings)
        spare_the_collector()

    def _set_environment(self) -> None:
        """vLLM reads these when it is imported."""
        config = self._settings.config
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        # One limit for a slow start, not a second one of vLLM's own.
        os.environ["VLLM_ENGINE_READY_TIMEOUT_S"] = str(math.ceil(config.start_timeout_s))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(not config.inline_engine))
        if self._settings.device == "cpu":
            if config.enforce_eager:
                # Counting a sampled token's rank alone would cost the C++ compiler's 7 s.
                os.environ["TORCHDYNAMO_DISABLE"] = "1"
                if "torch._dynamo" in sys.modules:  # it has read the variable
                    sys.modules["torch._dynamo"].config.disable = True
            os.environ.update(
                VLLM_CPU_KVCACHE_SPACE=str(config.cpu_kv_cache_gib),
                VLLM_CPU_OMP_THREADS_BIND="nobind",
                OMP_NUM_THREADS=str(config.cpu_threads),
            )
        else:
            # Who asks torch whether there is a GPU has begun to initialise CUDA, and a forked child
            # cannot go on from there; vLLM forks unless told otherwise.
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"

    async def ready(self) -> bool:
        """Returns once the engine runs."""
        await self._engine.check_health()
        return True

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        """Samples one continuation of ``prompt_ids``; ``on_tokens`` gets each step's ids."""
        from vllm import SamplingParams as VLLMSamplingParams
        from vllm import TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        params = VLLMSamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=max(sampling.top_k, 0),
            seed=sampling.seed if sampling.temperature > 0 else None,
            stop=list(sampling.stop),
            stop_token_ids=list(self._settings.end_ids),
            include_stop_str_in_output=True,
            logprobs=0,
            skip_special_tokens=False,
            output_kind=(
                RequestOutputKind.FINAL_ONLY if on_tokens is None else RequestOutputKind.DELTA
            ),
        )
        prompt = TokensPrompt(prompt_token_ids=list(prompt_ids))
        ids: list[int] = []
        log_probs: list[float] = []
        finish_reason: str | None = None
        async for output in self._engine.generate(prompt, params, request_id=uuid.uuid4().hex):
            completion = output.outputs[0]
            new = list(completion.token_ids)
            ids += new
            log_probs += [
                entry[token].logprob
                for token, entry in zip(new, completion.logprobs or (), strict=True)
            ]
            finish_reason = completion.finish_reason
            if on_tokens is not None and new:
                on_tokens(new)
        return GenerationOutput(tuple(ids), tuple(log_probs), str(finish_reason))

    async def hold(self) -> None:
        """Generates nothing until the next update of weights is complete; what is under way stands
        still. An engine that sleeps between updates has nothing to hold."""
        if not self._settings.sleep:
            await self._engine.pause_generation(mode="keep", clear_cache=False)

    async def start_weight_update(self) -> list[str]:
        """Prepares for buckets; returns which memories its processes read them from. Generations
        under way stand still until the update is complete."""
        await self.hold()
        await self._engine.collective_rpc("start_weight_update")
        memories: list[str] = await self._engine.collective_rpc("weight_memory_id")
        return memories

    async def load_weights(self, bucket: dict[str, Any]) -> None:
        """Loads one bucket, which may be overwritten afterwards."""
        await self._engine.collective_rpc("update_weights", kwargs={"update_info": bucket})

    async def finish_weight_update(self) -> None:
        """Completes the update and forgets what was cached under the old weights: generations under
        way keep their tokens and go on from them with the new weights."""
        await self._engine.collective_rpc("finish_weight_update")
        await self._engine.reset_prefix_cache(reset_running_requests=True)
        if not self._settings.sleep:
            await self._engine.resume_generation()

    async def sleep(self) -> None:
        """Frees GPU memory: weights and KV cache (they come with the next update)."""
        await self._engine.sleep(level=2)

    async def wake_up(self, tag: str) -> None:
        """Takes memory back for "weights" or "kv_cache"."""
        await self._engine.wake_up(tags=[tag])

    async def shutdown(self) -> None:
        """Ends the engine's processes."""
        self._engine.shutdown()
        # Its finaliser shuts down again, with half of the interpreter gone, and complains.
        self._engine.shutdown = lambda *_, **__: None


def _start_engine(settings: ReplicaSettings) -> Any:
    """The engine in this process or, with a process of its own for its core, vLLM's."""
    arguments = engine_arguments(settings)
    if settings.config.inline_engine:
        threads = settings.config.cpu_threads if settings.device == "cpu" else None
        return InlineEngine(arguments, threads)
    with not_found("scipy"):  # only what resamples audio imports it
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
