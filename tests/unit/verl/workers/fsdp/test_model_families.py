"""Every supported family: packing equals padding, scores are transformers' own, saves load again.

FSDP runs as it does in a worker, with this process as the only rank.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    Gemma2Config,
    PreTrainedTokenizerFast,
)

from tests.families import FAMILIES, create_family
from verl.config.model import ActorConfig, CriticConfig, ModelConfig, OptimConfig, ReferenceConfig
from verl.config.validation import ConfigError
from verl.protocol import DataProto
from verl.single_controller.worker import RankInfo
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus, collate
from verl.utils.sequence_packing import ModelInput, TokenSequence, lay_out
from verl.workers.fsdp.actor import ActorWorker, ReferenceWorker
from verl.workers.fsdp.critic import CriticWorker
from verl.workers.fsdp.modelling import Head, build_model

CPU = torch.device("cpu")
# Longer and shorter than Gemma's window of 16 tokens, and a sequence of one target.
LENGTHS = (40, 7, 2, 23)
CHANGES: dict[str, dict[str, Any]] = {
    **{family: {} for family in FAMILIES},
    "qwen2-window": {
        "use_sliding_window": True,
        "sliding_window": 5,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "gemma3-final-cap": {"final_logit_softcapping": 2.0},
}


@pytest.fixture(scope="module")
def folders(
    tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {
        name: create_family(name.split("-")[0], tokenizer, root / name, **changes)
        for name, changes in CHANGES.items()
    }


def config_of(folder: Path, packed: bool, **changes: Any) -> ModelConfig:
    return ModelConfig(
        path=str(folder),
        dtype="float32",
        use_remove_padding=packed,
        enable_gradient_checkpointing=packed,
        logits_chunk_tokens=16,
        **changes,
    )


def model_input(packed: bool) -> ModelInput:
    """Sequences of :data:`LENGTHS` tokens; all but the first token and a third are targets."""
    generator = torch.Generator().manual_seed(1)
    sequences = []
    for sample, length in enumerate(LENGTHS):
        ids = torch.randint(5, 300, (length,), generator=generator)
        targets = torch.tensor([i for i in range(1, length) if i == 1 or i % 3])
        sequences.append(TokenSequence(ids, targets, sample, torch.arange(len(targets))))
    return lay_out(sequences, packed, CPU)


def run(
    folder: Path, head: Head, packed: bool, **changes: Any
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Results of the targets and all gradients of a weighted sum of them."""
    model: Any = build_model(config_of(folder, packed, **changes), head, CPU, trained=True)
    if head == "value":
        with torch.no_grad():
            model.score.weight.copy_(torch.linspace(-1, 1, model.score.weight.numel()))
    batch = model_input(packed)
    result = model(batch, 0.7).log_probs if head == "lm" else model(batch)
    (result * torch.linspace(-1, 1, len(result))).sum().backward()
    return result.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("head", ["lm", "value"])
def test_packing_equals_padding(folders: dict[str, Path], name: str, head: Head) -> None:
    """Packed rows go through our attention per sequence, padded ones through transformers' sdpa."""
    packed, packed_gradients = run(folders[name], head, packed=True)
    padded, padded_gradients = run(folders[name], head, packed=False)
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=2e-6)
    assert packed_gradients.keys() == padded_gradients.keys()
    for parameter, gradient in padded_gradients.items():
        difference = (packed_gradients[parameter] - gradient).abs().max()
        assert difference <= 1e-5 * gradient.abs().max() + 1e-7, parameter


@pytest.mark.parametrize("name", CHANGES)
def test_log_probs_and_gradients_are_those_of_transformers_own_logits(
    folders: dict[str, Path], name: str
) -> None:
    got, gradients = run(folders[name], "lm", packed=False)
    batch = model_input(packed=False)
    model: Any = AutoModelForCausalLM.from_pretrained(folders[name], dtype=torch.float32)
    logits = model(batch.input_ids, attention_mask=batch.attention_mask).logits
    log_probs = (logits[batch.rows, batch.columns].float() / 0.7).log_softmax(-1)
    expected = log_probs.gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=2e-6)
    (expected * torch.linspace(-1, 1, len(expected))).sum().backward()
    for parameter, weight in model.named_parameters():
        difference = (gradients[f"pretrained.{parameter}"] - weight.grad).abs().max()
        assert difference <= 2e-6 * weight.grad.abs().max() + 1e-7, parameter


def trajectories() -> DataProto:
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
    for name in ("advantages", "returns"):
        batch.batch[name] = torch.randn(mask.shape, generator=generator)
    return batch


@pytest.mark.parametrize("family", FAMILIES)
def test_actor_and_critic_score_update_and_save(
    folders: dict[str, Path], family: str, single_rank: RankInfo, tmp_path: Path
) -> None:
    model = config_of(folders[family], packed=True)
    optim = OptimConfig(lr=1e-3)
    actor = ActorWorker(single_rank, model, ActorConfig(optim=optim), 0.7, 10)
    critic = CriticWorker(single_rank, CriticConfig(model=model, optim=optim), 10)
    batch = trajectories()
    assert batch.batch is not None
    mask = batch.batch["response_mask"].bool()
    for scored in (actor.compute_log_probs(batch), critic.compute_values(batch)):
        assert scored.batch is not None
        batch.batch.update(scored.batch)
    assert not batch.batch["values"].any()
    assert actor.update_actor(batch).meta_info["metrics"]["actor/grad_norm"] > 0
    assert critic.update_critic(batch).meta_info["metrics"]["critic/grad_norm"] > 0
    # Twice: at first the head is 0 and the backbone without gradient.
    assert critic.update_critic(batch).meta_info["metrics"]["critic/grad_norm"] > 0
    after = critic.compute_values(batch).batch
    assert after is not None
    assert after["values"][mask].abs().min() > 0

    actor.save_checkpoint(str(tmp_path / "actor"))
    critic.save_checkpoint(str(tmp_path / "critic"))
    saved = ModelConfig(**(vars(model) | {"path": str(tmp_path / "actor")}))
    again = ReferenceWorker(single_rank, saved, ActorConfig(), ReferenceConfig(), 0.7)
    ours, theirs = actor.compute_log_probs(batch).batch, again.compute_ref_log_probs(batch).batch
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours["old_log_probs"], theirs["ref_log_prob"])
    assert_loads_as_critic(tmp_path / "critic", family)


def assert_loads_as_critic(folder: Path, family: str) -> None:
    """The folder is transformers' token classification, or its base model with a head beside it."""
    weights = load_file(folder / "model.safetensors")
    assert weights["score.weight"].shape[0] == 1
    assert weights["score.weight"].abs().min() > 0
    config = AutoConfig.from_pretrained(folder)
    assert config.num_labels == 1
    if family == "gemma3":
        assert config.architectures == ["Gemma3TextModel"]
        model: Any = AutoModel.from_pretrained(folder)
        prefix = "model."
    else:
        model = AutoModelForTokenClassification.from_pretrained(folder)
        assert config.architectures == [type(model).__name__]
        prefix = ""
    loaded = model.state_dict()
    assert {f"{prefix}{name}" for name in loaded} == {
        name for name in weights if name.startswith(prefix)
    } - ({"score.weight", "score.bias"} if prefix else set())
    for name, weight in loaded.items():
        assert torch.equal(weight, weights[f"{prefix}{name}"]), name


def test_capped_attention_scores_are_refused_where_they_would_be_left_out(
    tmp_path: Path,
) -> None:
    gemma2 = Gemma2Config(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        attn_logit_softcapping=1.0,
        final_logit_softcapping=2.0,
        sliding_window=16,
    )
    AutoModelForCausalLM.from_config(gemma2).save_pretrained(tmp_path)
    for name in ("varlen", "sdpa"):
        with pytest.raises(ConfigError, match="cannot cap attention scores, as gemma2 does"):
            run(tmp_path, "lm", packed=True, attn_implementation=name)
    packed, _ = run(tmp_path, "lm", packed=True)
    padded, _ = run(tmp_path, "lm", packed=False)
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=2e-6)


def test_a_model_with_logits_of_its_own_kind_is_refused(folders: dict[str, Path]) -> None:
    from verl.workers.fsdp.modelling import PolicyModel

    model = AutoModelForCausalLM.from_pretrained(folders["qwen2"])
    model.config.model_type = "recurrent_gemma"
    with pytest.raises(ConfigError, match="recurrent_gemma changes its logits"):
        PolicyModel(model, 16)
