"""Compiled decoder layers compute what the others do, by one graph for batches of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters
from transformers import PreTrainedTokenizerFast

from tests.families import create_family
from verl.config.model import ModelConfig
from verl.utils.sequence_packing import ModelInput, TokenSequence, lay_out
from verl.workers.fsdp.modelling import PolicyModel, build_model

CPU = torch.device("cpu")
# Micro-batches: more and fewer sequences, of one length and of several, one alone.
LENGTHS = ((40, 7, 2, 23), (12, 30), (5,), (9, 9, 9))


def packed(lengths: tuple[int, ...]) -> ModelInput:
    generator = torch.Generator().manual_seed(1)
    sequences = [
        TokenSequence(
            torch.randint(5, 300, (length,), generator=generator),
            torch.arange(1, length),
            sample,
            torch.arange(length - 1),
        )
        for sample, length in enumerate(lengths)
    ]
    return lay_out(sequences, True, CPU)


def log_probs_and_gradients(
    model: torch.nn.Module, batch: ModelInput
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    log_probs = model(batch, 0.7).log_probs
    model.zero_grad()
    (log_probs * torch.linspace(-1, 1, len(log_probs))).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return log_probs.detach(), gradients


def policy(folder: Path, **changes: Any) -> PolicyModel:
    config = ModelConfig(path=str(folder), dtype="float32", logits_chunk_tokens=16, **changes)
    model = build_model(config, "lm", CPU, trained=True)
    assert isinstance(model, PolicyModel)
    return model


def test_compiled_layers_compute_the_same_in_one_graph(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """With checkpointing, which takes place within the graph."""
    folder = create_family("qwen2", tokenizer, tmp_path / "model")
    plain, compiled = policy(folder), policy(folder, torch_compile=True)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    torch._dynamo.reset()
    counters.clear()
    for lengths in LENGTHS:
        expected, expected_gradients = log_probs_and_gradients(plain, packed(lengths))
        got, gradients = log_probs_and_gradients(compiled, packed(lengths))
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        assert gradients.keys() == expected_gradients.keys()
        for name, gradient in expected_gradients.items():
            difference = (gradients[name] - gradient).abs().max()
            assert difference <= 1e-4 * gradient.abs().max() + 1e-7, name
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
