"""Adapters: peft's own numbers, a base that never moves, and what is saved of them.

FSDP runs as it does in a worker, with this process as the only rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader
from transformers import (
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
)

from tests.families import create_family
from verl.config.model import (
    ActorConfig,
    CriticConfig,
    LoraConfig,
    ModelConfig,
    OptimConfig,
    ReferenceConfig,
)
from verl.config.validation import ConfigError
from verl.protocol import DataProto
from verl.single_controller.worker import RankInfo
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus, collate
from verl.workers.fsdp.actor import ActorWorker, ReferenceWorker
from verl.workers.fsdp.critic import CriticWorker
from verl.workers.fsdp.modelling import build_model
from verl.workers.fsdp.saving import BaseModelError, export_state
from verl.workers.fsdp.training_state import PARAMETERS

CPU = torch.device("cpu")
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors are too small for two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy whose output layer is tied to its embedding."""
    return create_family("qwen2", tokenizer, tmp_path_factory.mktemp("lora") / "base")


def config_of(folder: Path, **lora: Any) -> ModelConfig:
    adapters = LoraConfig(**({"rank": 4, "alpha": 8} | lora))
    return ModelConfig(path=str(folder), dtype="float32", lora=adapters)


def batch_of_six() -> DataProto:
    generator = torch.Generator().manual_seed(3)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, 300, (length,), generator=generator).tolist())

    made = []
    for i in range(6):
        action = ids(3 + 4 * i)
        segments = [
            Segment(SegmentKind.PROMPT, ids(5 + i)),
            Segment(SegmentKind.ACTION, action, (-1.0,) * len(action)),
        ]
        made.append(Trajectory(str(i), segments, TrajectoryStatus.ANSWERED))
    batch = collate(made, pad_token_id=0)
    assert batch.batch is not None
    mask = batch.batch["response_mask"]
    for name in ("advantages", "returns", "values", "old_log_probs"):
        batch.batch[name] = torch.randn(mask.shape, generator=generator) - 5.7 * (name[0] == "o")
    return batch


def actor_of(info: RankInfo, model: ModelConfig) -> ActorWorker:
    return ActorWorker(info, model, ActorConfig(optim=OptimConfig(lr=1e-2)), 0.7, 10)


def critic_of(info: RankInfo, model: ModelConfig) -> CriticWorker:
    return CriticWorker(info, CriticConfig(model=model, optim=OptimConfig(lr=1e-2)), 10)


def updated(worker: Any, batch: DataProto, times: int = 2) -> Any:
    update = worker.update_actor if isinstance(worker, ActorWorker) else worker.update_critic
    for _ in range(times):
        update(batch)
    return worker


@pytest.fixture(scope="module")
def actor(base: Path, single_rank: RankInfo) -> ActorWorker:
    """Of two steps; left as it is."""
    trained: ActorWorker = updated(actor_of(single_rank, config_of(base)), batch_of_six())
    return trained


@pytest.fixture(scope="module")
def critic(base: Path, single_rank: RankInfo) -> CriticWorker:
    """Of two steps; left as it is."""
    trained: CriticWorker = updated(critic_of(single_rank, config_of(base)), batch_of_six())
    return trained


def column(data: DataProto, name: str) -> torch.Tensor:
    assert data.batch is not None
    tensor: torch.Tensor = data.batch[name]
    return tensor


def published(worker: Any) -> Weights:
    return {name: tensor.clone() for name, tensor in worker._engine.full_parameters()}


def assert_near(left: Weights, right: Weights) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=1e-6, atol=1e-7, msg=name)


def test_an_update_moves_the_adapters_and_nothing_else(base: Path, single_rank: RankInfo) -> None:
    for make, heads in ((actor_of, set()), (critic_of, {"score.weight", "score.bias"})):
        worker = make(single_rank, config_of(base))
        model = worker._engine.model
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        updated(worker, batch_of_six())
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        assert moved == {n for n in before if "lora_" in n} | heads
        optimised = [p for group in worker._engine.optimizer.param_groups for p in group["params"]]
        assert len(optimised) == len(moved)


def test_training_starts_at_the_base_and_keeps_it_as_the_reference(
    base: Path, single_rank: RankInfo
) -> None:
    batch = batch_of_six()
    model = config_of(base)
    reference = ReferenceWorker(single_rank, model, ActorConfig(), ReferenceConfig(), 0.7)
    expected = column(reference.compute_ref_log_probs(batch), "ref_log_prob")
    actor = actor_of(single_rank, model)
    assert torch.equal(column(actor.compute_log_probs(batch), "old_log_probs"), expected)
    updated(actor, batch)
    trained = column(actor.compute_log_probs(batch), "old_log_probs")
    assert (trained - expected).abs().max() > 0.01
    assert torch.equal(column(actor.compute_ref_log_probs(batch), "ref_log_prob"), expected)
    again = column(actor.compute_log_probs(batch), "old_log_probs")
    assert torch.equal(again, trained), "the adapters are back"


def test_a_policy_without_adapters_is_no_reference(base: Path, single_rank: RankInfo) -> None:
    actor = actor_of(single_rank, config_of(base, rank=0))
    with pytest.raises(ValueError, match="LoraLayer"):
        actor.compute_ref_log_probs(batch_of_six())


def test_weights_come_out_merged_as_peft_merges_them(
    base: Path, actor: ActorWorker, tmp_path: Path
) -> None:
    merged = published(actor)
    assert dict(actor._engine.parameter_shapes()) == {n: t.shape for n, t in merged.items()}
    actor.save_checkpoint(str(tmp_path / "actor"))
    assert_near(load_file(tmp_path / "actor" / "model.safetensors"), merged)

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "actor" / "adapter")
    assert adapted.peft_config["default"].target_modules == LINEAR
    assert adapted.peft_config["default"].base_model_name_or_path == str(base)
    ids = torch.arange(5, 45).unsqueeze(0)
    logits = adapted(ids).logits.detach()
    theirs = dict(adapted.merge_and_unload().named_parameters())
    assert_near(merged, {name: theirs[name].detach() for name in merged})
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "actor", dtype=torch.float32)
    torch.testing.assert_close(whole(ids).logits, logits, rtol=1e-5, atol=1e-5)
    untouched = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert (untouched(ids).logits - logits).abs().max() > 0.01


def test_half_precision_for_the_engine_is_rounded_after_the_merge(actor: ActorWorker) -> None:
    whole = published(actor)
    for name, tensor in actor._engine.full_parameters(torch.bfloat16):
        assert torch.equal(tensor, whole[name].bfloat16()), name


def test_a_critics_adapters_load_into_peft_with_its_head(
    base: Path, critic: CriticWorker, tmp_path: Path
) -> None:
    critic.save_checkpoint(str(tmp_path / "critic"))
    family = AutoModelForTokenClassification
    model = family.from_pretrained(base, num_labels=1, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(model, tmp_path / "critic" / "adapter").eval()
    whole = family.from_pretrained(tmp_path / "critic", dtype=torch.float32).eval()
    ids = torch.arange(5, 45).unsqueeze(0)
    values = whole(ids).logits
    assert values.abs().max() > 0
    torch.testing.assert_close(adapted(ids).logits, values, rtol=1e-5, atol=1e-5)


def saved_names(state: Path) -> set[str]:
    """The parameters that a training state holds."""
    names = FileSystemReader(state).read_metadata().state_dict_metadata
    return {n.removeprefix(PARAMETERS) for n in names if n.startswith(PARAMETERS)}


@pytest.mark.parametrize(
    ("make", "family"), [(actor_of, "qwen2"), (actor_of, "qwen2.5"), (critic_of, "qwen2.5")]
)
def test_a_training_state_holds_adapters_goes_on_and_is_exported_merged(
    single_rank: RankInfo,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    make: Any,
    family: str,
) -> None:
    batch, state = batch_of_six(), tmp_path / "state"
    model = config_of(create_family(family, tokenizer, tmp_path / "base"))
    worker = updated(make(single_rank, model), batch)
    at_the_save = published(worker)
    worker.begin_save(str(state), str(tmp_path / "exported"))
    assert worker.finish_save() is None
    worker.save_checkpoint(str(tmp_path / "saved"))
    straight = published(updated(worker, batch))
    again = make(single_rank, model)
    again.load_state(str(state))
    assert_near(published(again), at_the_save)
    resumed = published(updated(again, batch))
    for name, tensor in straight.items():
        assert torch.equal(resumed[name], tensor), name

    assert_near(load_file(tmp_path / "exported" / "model.safetensors"), at_the_save)
    for file in ("adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
        exported, saved = (tmp_path / folder / file for folder in ("exported", "saved"))
        assert exported.read_bytes() == saved.read_bytes()
    weights = load_file(tmp_path / "saved" / "adapter" / "adapter_model.safetensors")
    assert {f"base_model.model.{name}" for name in saved_names(state)} == weights.keys()

    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(BaseModelError, match=f"base model {model.path}, which cannot be read"):
        export_state(state, tmp_path / "unmade")
    assert not (tmp_path / "unmade").exists()


def test_only_the_layers_named_are_adapted(base: Path) -> None:
    config = config_of(base, target_modules=["q_proj", "mlp.down_proj"])
    model = build_model(config, "lm", CPU, trained=True)
    adapted = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n.split(".lora_")[0].rpartition(".")[2] for n in adapted} == {"q_proj", "down_proj"}
    assert len(adapted) == 2 * 2 * 2


def test_adapters_start_alike_in_every_run_and_draw_from_no_other_stream(base: Path) -> None:
    def first_a(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = build_model(config_of(base), "lm", CPU, trained=True)
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.manual_seed(seed)))
        return next(p for n, p in model.named_parameters() if ".lora_A." in n)

    first = first_a(1)
    assert first.abs().max() > 0
    assert torch.equal(first, first_a(2))


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens", "roj", "all-linear,q_proj"])
def test_what_cannot_be_adapted_is_refused(base: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.lora\.target_modules .*all-linear"):
        build_model(config_of(base, target_modules=name.split(",")), "lm", CPU, trained=True)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.lora\.rank must be >= 0"):
        LoraConfig(rank=-1)
    with pytest.raises(ConfigError, match=r"model\.lora\.alpha must be > 0"):
        replace(LoraConfig(rank=4), alpha=0)
