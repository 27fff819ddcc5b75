"""vLLM beside one trainer rank: start, weight transfer, log-prob parity, sleep and wake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from gpu_stages.errors import StageError, require
from gpu_stages.random_policy import write_policy
from verl.config.model import ActorConfig, ModelConfig, OptimConfig
from verl.config.ppo import RayConfig
from verl.config.rollout import RolloutConfig
from verl.interfaces import GenerationOutput, SamplingParams
from verl.protocol import DataProto
from verl.trajectory import Segment, SegmentKind, Trajectory, collate

_PROMPTS = [list(range(10 + i, 40 + 2 * i)) for i in range(16)]
_CONTEXT = 256


def run(device: torch.device, record: Callable[[str, Any], None]) -> None:
    """Needs ray and vllm beside what the other stages need."""
    try:
        import ray  # noqa: F401
        import vllm  # noqa: F401
    except ImportError as error:
        raise StageError(f"not run: {error}") from error
    from verl.trainer.cluster import ray_cluster

    with TemporaryDirectory() as folder, ray_cluster(RayConfig(), num_ranks=1):
        _beside_one_rank(write_policy(Path(folder)), device.type, record)


def _beside_one_rank(path: Path, device: str, record: Callable[[str, Any], None]) -> None:
    from verl.single_controller.resource_pool import RayResourcePool
    from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup
    from verl.workers.fsdp.actor import ActorWorker
    from verl.workers.rollout.publish import publish_weights
    from verl.workers.rollout.replicas import RolloutReplicas

    dtype = "bfloat16" if device == "cuda" else "float32"
    model = ModelConfig(path=str(path), dtype=dtype, enable_gradient_checkpointing=False)
    config = ActorConfig(optim=OptimConfig(lr=5e-3))
    role = RayClassWithInit(ActorWorker, model, config, 1.0, 10)
    group = RayWorkerGroup(RayResourcePool([1], use_gpu=device == "cuda"), {"actor": role}, device)
    rollout = RolloutConfig(
        dtype=dtype, gpu_memory_utilization=0.4, max_model_len=_CONTEXT, enforce_eager=True
    )
    start = time.perf_counter()
    engine = RolloutReplicas(rollout, str(path), device, _CONTEXT, ranks=group.devices)
    try:
        engine.wait_until_ready()
        record("start_s", time.perf_counter() - start)
        actor = group["actor"]
        for step in range(3):
            start = time.perf_counter()
            engine.sleep()
            record(f"sleep_{step}_s", time.perf_counter() - start)
            start = time.perf_counter()
            publish_weights(actor, engine)
            record(f"publish_{step}_s", time.perf_counter() - start)
            batch = _as_batch(asyncio.run(_generate(engine)))
            mean, largest = _gap(actor, batch)
            record(f"log_prob_gap_{step}_mean", mean)
            record(f"log_prob_gap_{step}_max", largest)
            require(mean < (0.02 if device == "cuda" else 1e-5), f"log-probs differ by {mean:.3g}")
            actor.update_actor(batch)
    finally:
        engine.shutdown()
        group.shutdown()


async def _generate(engine: Any) -> list[GenerationOutput]:
    sampling = SamplingParams(max_tokens=48)
    calls = (engine.generate(p, sampling, str(i)) for i, p in enumerate(_PROMPTS))
    return list(await asyncio.gather(*calls))


def _as_batch(outputs: list[GenerationOutput]) -> DataProto:
    trajectories = [
        Trajectory(
            str(i),
            [
                Segment(SegmentKind.PROMPT, tuple(prompt)),
                Segment(SegmentKind.ACTION, output.token_ids, output.log_probs),
            ],
        )
        for i, (prompt, output) in enumerate(zip(_PROMPTS, outputs, strict=True))
    ]
    batch = collate(trajectories, pad_token_id=0)
    assert batch.batch is not None
    batch.batch["old_log_probs"] = batch.batch["rollout_log_probs"]
    batch.batch["advantages"] = torch.randn(batch.batch["response_mask"].shape)
    return batch


def _gap(actor: Any, batch: DataProto) -> tuple[float, float]:
    """Mean and largest difference of a sampled token's log-prob, engine against trainer."""
    assert batch.batch is not None
    trainer = actor.compute_log_probs(batch).batch["old_log_probs"]
    mask = batch.batch["response_mask"].bool()
    gaps = (trainer - batch.batch["rollout_log_probs"])[mask].abs()
    return float(gaps.mean()), float(gaps.max())
