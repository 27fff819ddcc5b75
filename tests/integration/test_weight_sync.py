"""After every sync the engine's log-probs are the trainer's."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from verl.config.model import ActorConfig, ModelConfig, OptimConfig
from verl.config.rollout import RolloutConfig
from verl.interfaces import GenerationOutput, SamplingParams
from verl.protocol import DataProto
from verl.single_controller.resource_pool import RayResourcePool
from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup
from verl.trajectory import Segment, SegmentKind, Trajectory, collate
from verl.workers.fsdp.actor import ActorWorker
from verl.workers.rollout.publish import publish_weights, refresh_weights
from verl.workers.rollout.replicas import RolloutEngineError, RolloutReplicas
from verl.workers.weight_transfer.buckets import WeightFormat

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.engine]
logger = logging.getLogger(__name__)
PROMPTS = [list(range(10 + i, 40 + 2 * i)) for i in range(8)]
SHORT = SamplingParams(max_tokens=24)
LONG = SamplingParams(max_tokens=192, seed=7)
REPLICA = "ray::VLLMReplica"
# The policy has 2 to 6 MB: tens of buckets, some with a part of a fused layer only.
SMALL_BUCKET = 100_000


@dataclass(frozen=True)
class Case:
    """What differs between two starts of an engine."""

    tied: bool
    dtype: str
    inline: bool = True

    def __str__(self) -> str:
        own_process = "" if self.inline else "-own process"
        return f"{'tied' if self.tied else 'untied'}-{self.dtype}{own_process}"


CASES = [
    Case(tied=True, dtype="float32"),
    Case(tied=False, dtype="float32", inline=False),
    Case(tied=True, dtype="bfloat16"),
]


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


@dataclass
class Setup:
    case: Case
    actor: Any
    engine: RolloutReplicas


@pytest.fixture(scope="module")
def folders(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The policy, by whether its output layer is that of its input."""
    untied = untie(policy_folder, tmp_path_factory.mktemp("untied") / "policy")
    return {True: policy_folder, False: untied}


@pytest.fixture(scope="module")
def actors(folders: dict[bool, Path]) -> Iterator[dict[Case, Any]]:
    """An actor for each case, all of them in the same two ranks."""
    roles = {}
    for case in CASES:
        model = ModelConfig(
            path=str(folders[case.tied]),
            dtype=case.dtype,
            use_remove_padding=False,
            enable_gradient_checkpointing=False,
        )
        actor = ActorConfig(optim=OptimConfig(lr=5e-3))
        roles[str(case)] = RayClassWithInit(ActorWorker, model, actor, 1.0, 10)
    group = RayWorkerGroup(RayResourcePool([2]), roles)
    yield {case: group[str(case)] for case in CASES}
    group.shutdown()


@pytest.fixture(scope="module", params=CASES, ids=str)
def setup(
    request: pytest.FixtureRequest, folders: dict[bool, Path], actors: dict[Case, Any]
) -> Iterator[Setup]:
    case: Case = request.param
    folder = folders[case.tied]
    rollout = RolloutConfig(
        dtype=case.dtype,
        enforce_eager=True,
        inline_engine=case.inline,
        cpu_threads=2,
        max_num_seqs=16,
        max_model_len=256,
    )
    engine = RolloutReplicas(rollout, str(folder), "cpu", 256)
    engine.weight_format = WeightFormat(case.dtype, SMALL_BUCKET)
    try:
        engine.wait_until_ready()
        yield Setup(case, actors[case], engine)
    finally:
        engine.shutdown()


def asked(
    engine: RolloutReplicas, sampling: SamplingParams
) -> list[Coroutine[Any, Any, GenerationOutput]]:
    return [engine.generate(p, sampling, str(i)) for i, p in enumerate(PROMPTS)]


def generate(engine: RolloutReplicas, sampling: SamplingParams = SHORT) -> list[GenerationOutput]:
    async def run() -> list[GenerationOutput]:
        return list(await asyncio.gather(*asked(engine, sampling)))

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


def gaps(actor: Any, batch: DataProto) -> torch.Tensor:
    """Differences of the engine's and the trainer's log-probs of the sampled tokens."""
    assert batch.batch is not None
    trainer = actor.compute_log_probs(batch).batch["old_log_probs"]
    mask = batch.batch["response_mask"].bool()
    difference: torch.Tensor = (trainer - batch.batch["rollout_log_probs"])[mask].abs()
    return difference


def bfloat16_noise(actor: Any, outputs: list[GenerationOutput], folder: Path) -> torch.Tensor:
    """Differences of log-probs that transformers computes in bfloat16 and in float32, both with the
    actor's present weights rounded to bfloat16: what any two implementations may differ by."""
    actor.save_checkpoint(str(folder))
    half: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    exact: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).float()
    differences = []
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        ids = torch.tensor([[*prompt, *output.token_ids]])
        with torch.no_grad():
            one, other = (
                model(ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
                for model in (half, exact)
            )
        chosen = ids[0, len(prompt) :, None]
        differences.append((one - other).gather(-1, chosen).abs().flatten())
    return torch.cat(differences)


def assert_agree(setup: Setup, outputs: list[GenerationOutput], folder: Path) -> None:
    difference = gaps(setup.actor, as_batch(outputs))
    if setup.case.dtype == "float32":
        assert float(difference.max()) < 1e-5
    else:
        noise = bfloat16_noise(setup.actor, outputs, folder)
        logger.info(
            "gap mean %.1e max %.1e, bfloat16 alone mean %.1e max %.1e",
            *(float(v) for v in (difference.mean(), difference.max(), noise.mean(), noise.max())),
        )
        assert float(difference.mean()) < 2 * float(noise.mean())
        assert float(difference.max()) < 3 * float(noise.max())


def test_log_probs_agree_after_every_parameter_changed(setup: Setup, tmp_path: Path) -> None:
    actor, engine = setup.actor, setup.engine
    publish_weights(actor, engine)
    outputs = generate(engine)
    assert_agree(setup, outputs, tmp_path / "before")
    batch = as_batch(outputs)
    assert batch.batch is not None

    mask = batch.batch["response_mask"]
    generator = torch.Generator().manual_seed(0)
    batch.batch["advantages"] = torch.randn(mask.shape, generator=generator)
    batch.batch["old_log_probs"] = batch.batch["rollout_log_probs"]
    for _ in range(3):
        actor.update_actor(batch)
    assert gaps(actor, batch).mean() > 0.1, "the update must be large enough to tell stale weights"
    # Same prompts: a prefix cached under the old weights would show as well.
    stale = as_batch(generate(engine))
    assert gaps(actor, stale).mean() > 0.1
    publish_weights(actor, engine)
    assert_agree(setup, generate(engine), tmp_path / "after")


def replicas() -> list[psutil.Process]:
    """Those of this test session's Ray."""
    own = psutil.Process().children(recursive=True)
    return [process for process in own if REPLICA in " ".join(process.cmdline())]


def cores() -> list[psutil.Process]:
    """Engines in processes of their own: what replicas have started that has a worker itself, which
    the process that watches over multiprocessing's resources has not. Their titles may be unset."""
    started = [child for replica in replicas() for child in replica.children()]
    return [child for child in started if child.children()]


def change(setup: Setup) -> None:
    """New weights, which no file holds, for the trainer and the engine."""
    batch = as_batch(generate(setup.engine))
    assert batch.batch is not None
    batch.batch["advantages"] = torch.ones_like(batch.batch["rollout_log_probs"])
    batch.batch["old_log_probs"] = batch.batch["rollout_log_probs"]
    setup.actor.update_actor(batch)
    publish_weights(setup.actor, setup.engine)
    setup.engine.refresh = partial(refresh_weights, setup.actor)


def assert_same(outputs: list[GenerationOutput], expected: list[GenerationOutput]) -> None:
    for output, other in zip(outputs, expected, strict=True):
        assert output.token_ids == other.token_ids
        assert output.log_probs == pytest.approx(other.log_probs, abs=1e-4)


def rollout_losing(
    processes: Callable[[], list[psutil.Process]], engine: RolloutReplicas
) -> list[GenerationOutput]:
    async def run() -> list[GenerationOutput]:
        calls = [asyncio.ensure_future(call) for call in asked(engine, LONG)]
        await asyncio.sleep(0.05)
        assert not any(call.done() for call in calls)
        lost = processes()
        assert lost
        for process in lost:
            process.kill()
        return await asyncio.gather(*calls)

    return asyncio.run(run())


def rollout_during(
    publication: Callable[[], None], engine: RolloutReplicas, after_s: float
) -> list[Any]:
    async def run() -> list[GenerationOutput]:
        calls = [asyncio.ensure_future(call) for call in asked(engine, LONG)]
        await asyncio.sleep(after_s)
        await asyncio.to_thread(publication)
        return await asyncio.gather(*calls)

    return asyncio.run(run())


def share_of_both(setup: Setup, after_s: float) -> float:
    """Of generations during which new weights came: those that the old ones began and the new ones
    ended. Each token's log-prob is that of the one or the other over the whole context."""
    actor, engine = setup.actor, setup.engine
    old = generate(engine, LONG)
    batch = as_batch(old)
    assert batch.batch is not None
    batch.batch["advantages"] = torch.ones_like(batch.batch["rollout_log_probs"])
    batch.batch["old_log_probs"] = batch.batch["rollout_log_probs"]
    actor.update_actor(batch)
    mixed = rollout_during(partial(publish_weights, actor, engine), engine, after_s)
    difference = gaps(actor, as_batch(mixed)).split([len(output.token_ids) for output in mixed])
    of_both = 0
    for output, before, gap in zip(mixed, old, difference, strict=True):
        felt = (gap > 1e-5).nonzero()
        of_old = int(felt.max()) + 1 if len(felt) else 0
        assert output.token_ids[:of_old] == before.token_ids[:of_old]
        assert output.log_probs[:of_old] == pytest.approx(before.log_probs[:of_old], abs=1e-4)
        of_both += 0 < of_old < len(output.token_ids)
    return of_both / len(mixed)


@pytest.mark.parametrize("setup", CASES[:2], indirect=True, ids=str)
def test_generations_under_way_keep_their_tokens_and_go_on_with_new_weights(setup: Setup) -> None:
    """Also what they had cached is of the new weights. How long a generation takes is not known
    beside other tests, so the weights come sooner or later until most generations are of both."""
    actor, engine = setup.actor, setup.engine
    publish_weights(actor, engine)
    old = generate(engine, LONG)
    assert_same(rollout_during(partial(publish_weights, actor, engine), engine, 0.1), old)
    assert any(share_of_both(setup, after_s) > 0.5 for after_s in (0.1, 0.2, 0.4, 0.05, 0.8))


@pytest.mark.parametrize("setup", CASES[:2], indirect=True, ids=str)
def test_an_engine_that_dies_comes_back_with_the_present_weights(setup: Setup) -> None:
    """In mid-rollout, and between two rollouts; its generations are those it would have made."""
    engine, before = setup.engine, setup.engine.restarts
    change(setup)
    expected = generate(engine, LONG)
    assert_same(rollout_losing(replicas if setup.case.inline else cores, engine), expected)
    assert engine.restarts == before + 1
    if setup.case.inline:
        for process in replicas():
            process.kill()
        publish_weights(setup.actor, engine)
        assert_same(generate(engine, LONG), expected)
        assert engine.restarts == before + 2


def test_the_model_goes_over_in_many_buckets(setup: Setup) -> None:
    opened = setup.actor.open_weight_update({"cpu"}, setup.engine.weight_format)
    setup.actor.close_weight_update()
    assert [rank.exported for rank in opened] == ["cpu", None]
    assert opened[0].num_buckets > 10


@pytest.mark.usefixtures("setup")
@pytest.mark.parametrize("setup", CASES[1:2], indirect=True, ids=str)
def test_an_engines_own_processes_end_with_its_actor() -> None:
    """The last test of this engine, which nothing starts again."""
    (core,) = cores()
    (worker,) = core.children()
    for process in replicas():
        process.kill()
    assert psutil.wait_procs([core, worker], timeout=30)[1] == []


def test_a_dead_engine_is_one_clear_error(policy_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(policy_folder, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    config = RolloutConfig(dtype="float32", enforce_eager=True, inline_engine=True)
    engine = RolloutReplicas(config, str(broken), "cpu", 128)
    with pytest.raises(RolloutEngineError, match=r"replica 0 \(a CPU\) did not start") as raised:
        engine.wait_until_ready()
    account = re.search(r"Error: .* \(more in (.*)\.out and .*\.err\)$", str(raised.value))
    assert account
    assert "\n" not in str(raised.value)
    assert "safetensors" in Path(f"{account[1]}.err").read_text()


def test_an_engine_that_is_not_up_in_time_is_named(policy_folder: Path) -> None:
    config = RolloutConfig(dtype="float32", start_timeout_s=0.1)
    engine = RolloutReplicas(config, str(policy_folder), "cpu", 128)
    with pytest.raises(RolloutEngineError, match=r"0.1 s: 0 \(a CPU\); up: none.*start_timeout_s"):
        engine.wait_until_ready()
