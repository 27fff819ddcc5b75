"""After every sync the engine's log-probs are the trainer's (design section 5)."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from verl.config.model import ActorConfig, ModelConfig, OptimConfig
from verl.config.rollout import RolloutConfig
from verl.interfaces import GenerationOutput, SamplingParams
from verl.protocol import DataProto
from verl.single_controller import RayClassWithInit, RayResourcePool, RayWorkerGroup
from verl.trajectory import Segment, SegmentKind, Trajectory, collate
from verl.workers.fsdp.actor import ActorWorker
from verl.workers.rollout.replicas import RolloutEngineError, RolloutReplicas
from verl.workers.weight_transfer.sender import merge_update_infos

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.engine]
PROMPTS = [list(range(10 + i, 40 + 2 * i)) for i in range(8)]


def untie(folder: Path, target: Path) -> Path:
    """The same policy with an output layer of its own."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    config["tie_word_embeddings"] = False
    (target / "config.json").write_text(json.dumps(config))
    model: Any = AutoModelForCausalLM.from_pretrained(target)
    torch.nn.init.normal_(model.lm_head.weight, std=0.06)
    model.save_pretrained(target)
    return target


@pytest.fixture(params=["tied", "untied"])
def actor_and_engine(
    request: pytest.FixtureRequest, policy_folder: Path, tmp_path: Path
) -> Iterator[tuple[Any, RolloutReplicas]]:
    folder = policy_folder
    if request.param == "untied":
        folder = untie(policy_folder, tmp_path / "untied")
    model = ModelConfig(
        path=str(folder),
        dtype="float32",
        use_remove_padding=False,
        enable_gradient_checkpointing=False,
    )
    actor = ActorConfig(optim=OptimConfig(lr=5e-3))
    roles = {"actor": RayClassWithInit(ActorWorker, model, actor, 1.0, 10)}
    rollout = RolloutConfig(
        dtype="float32", enforce_eager=True, cpu_threads=2, max_num_seqs=16, max_model_len=256
    )
    engine = RolloutReplicas(rollout, str(folder), "cpu", 256)
    group = RayWorkerGroup(RayResourcePool([2]), roles)
    try:
        engine.wait_until_ready()
        yield group["actor"], engine
    finally:
        engine.shutdown()
        group.shutdown()


def publish(actor: Any, engine: RolloutReplicas) -> None:
    engine.update_weights(merge_update_infos(actor.publish_weights()))
    actor.release_weights()


def generate(engine: RolloutReplicas) -> list[GenerationOutput]:
    async def run() -> list[GenerationOutput]:
        sampling = SamplingParams(max_tokens=24)
        calls = (engine.generate(p, sampling, str(i)) for i, p in enumerate(PROMPTS))
        return list(await asyncio.gather(*calls))

    return asyncio.run(run())


def as_batch(outputs: list[GenerationOutput]) -> DataProto:
    trajectories = [
        Trajectory(
            str(i),
            [
                Segment(SegmentKind.PROMPT, tuple(prompt)),
                Segment(SegmentKind.ACTION, output.token_ids, output.log_probs),
            ],
        )
        for i, (prompt, output) in enumerate(zip(PROMPTS, outputs, strict=True))
    ]
    return collate(trajectories, pad_token_id=0)


def gap(actor: Any, batch: DataProto) -> float:
    """Largest difference between the engine's and the trainer's log-prob of a sampled token."""
    assert batch.batch is not None
    trainer = actor.compute_log_probs(batch).batch["old_log_probs"]
    mask = batch.batch["response_mask"].bool()
    return float((trainer - batch.batch["rollout_log_probs"])[mask].abs().max())


def test_log_probs_agree_after_every_parameter_changed(
    actor_and_engine: tuple[Any, RolloutReplicas],
) -> None:
    actor, engine = actor_and_engine
    publish(actor, engine)
    batch = as_batch(generate(engine))
    assert batch.batch is not None
    assert gap(actor, batch) < 1e-5

    mask = batch.batch["response_mask"]
    generator = torch.Generator().manual_seed(0)
    batch.batch["advantages"] = torch.randn(mask.shape, generator=generator)
    batch.batch["old_log_probs"] = batch.batch["rollout_log_probs"]
    for _ in range(3):
        actor.update_actor(batch)
    assert gap(actor, batch) > 0.1, "the update must be large enough to tell stale weights"
    # Same prompts: a prefix cached under the old weights would show as well.
    stale = as_batch(generate(engine))
    assert gap(actor, stale) > 0.1
    publish(actor, engine)
    assert gap(actor, as_batch(generate(engine))) < 1e-5


def test_a_dead_engine_is_one_clear_error(policy_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(policy_folder, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    engine = RolloutReplicas(RolloutConfig(dtype="float32"), str(broken), "cpu", 128)
    with pytest.raises(RolloutEngineError, match=r"replica 0 \(a CPU\) did not start"):
        engine.wait_until_ready()


def test_an_engine_that_is_not_up_in_time_is_named(policy_folder: Path) -> None:
    config = RolloutConfig(dtype="float32", start_timeout_s=0.1)
    engine = RolloutReplicas(config, str(policy_folder), "cpu", 128)
    with pytest.raises(RolloutEngineError, match=r"0.1 s: 0 \(a CPU\); up: none.*start_timeout_s"):
        engine.wait_until_ready()
