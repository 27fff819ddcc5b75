"""The engine's side of the weight transfer, on vLLM's own layerwise reloading."""

from __future__ import annotations

import logging
from dataclasses import asdict
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from verl.workers.weight_transfer.buckets import plan_buckets
from verl.workers.weight_transfer.buffers import HostBuffer
from verl.workers.weight_transfer.sender import BucketSender, BufferPair

if TYPE_CHECKING:  # importing vLLM takes seconds, which only the process that runs these pays
    from verl.workers.weight_transfer.vllm_receiver import BucketTransferEngine

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
HIDDEN = 8
NAMES = ("embed.weight", "query.weight", "key.weight", "value.weight", "norm.weight")


class FusedLinear(nn.Module):
    """One weight that vLLM loads from three tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3 * HIDDEN, HIDDEN), requires_grad=False)
        self.weight.weight_loader = self.load  # type: ignore[assignment]

    def load(self, param: torch.Tensor, loaded_weight: torch.Tensor, part: int) -> None:
        param.data[part * HIDDEN : (part + 1) * HIDDEN].copy_(loaded_weight)


class Head(nn.Module):
    """Shares the embedding; counts how often a packed copy would be made."""

    def __init__(self, embed: nn.Embedding) -> None:
        super().__init__()
        self.weight = embed.weight
        self.packed: list[torch.Tensor] = []
        self.quant_method = SimpleNamespace(
            process_weights_after_loading=lambda layer: self.packed.append(layer.weight.clone())
        )


class Model(nn.Module):
    """What a vLLM model offers to a loader."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, HIDDEN)
        self.qkv = FusedLinear()
        self.norm = nn.LayerNorm(HIDDEN, bias=False)
        self.rotary = nn.Module()
        self.rotary.register_buffer("frequencies", torch.arange(4.0), persistent=False)
        self.lm_head = Head(self.embed)
        self.requires_grad_(False)

    def load_weights(self, weights: list[tuple[str, torch.Tensor]]) -> None:
        for name, tensor in weights:
            if name.split(".")[0] in ("query", "key", "value"):
                part = ("query", "key", "value").index(name.split(".")[0])
                param: Any = self.qkv.weight
                param.weight_loader(param, tensor, part)
            else:
                param = self.get_parameter(name)
                getattr(param, "weight_loader", _copy)(param, tensor)


def _copy(param: torch.Tensor, loaded_weight: torch.Tensor) -> None:
    param.data.copy_(loaded_weight)


def engine_of(model: Model) -> BucketTransferEngine:
    from verl.workers.weight_transfer.vllm_receiver import BucketTransferEngine

    engine = object.__new__(BucketTransferEngine)
    engine.model = model
    engine.device = torch.device("cpu")
    text = SimpleNamespace(tie_word_embeddings=True)
    engine.model_config = SimpleNamespace(hf_text_config=text, dtype=torch.float32)  # type: ignore[assignment]
    engine._attached = {}
    return engine


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(10, HIDDEN), *[(HIDDEN, HIDDEN)] * 3, (HIDDEN,)]
    return {
        name: torch.randn(shape, generator=generator)
        for name, shape in zip(NAMES, shapes, strict=True)
    }


def update(
    engine: BucketTransferEngine, pair: BufferPair, tensors: dict[str, torch.Tensor]
) -> None:
    plan = plan_buckets([(n, t.shape) for n, t in tensors.items()], torch.float32, 1)
    assert len(plan.buckets) == len(tensors), "a bucket each, in two buffers"
    sender = BucketSender(plan, iter(tensors.items()), pair)
    engine.start_weight_update()
    for _ in plan.buckets:
        engine.receive_weights(engine.parse_update_info(asdict(sender.fill())))
    engine.finish_weight_update()


def test_a_layer_whose_parts_come_in_different_buckets_is_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from vllm.model_executor.model_loader.reload import record_metadata_for_reloading

    model = Model()
    record_metadata_for_reloading(model)
    engine, pair = engine_of(model), BufferPair(torch.device("cpu"))
    addresses = {name: p.data_ptr() for name, p in model.named_parameters()}
    logging.getLogger("vllm").addHandler(caplog.handler)
    for seed in range(2):
        sent = weights(seed)
        update(engine, pair, sent)
        fused = torch.cat([sent["query.weight"], sent["key.weight"], sent["value.weight"]])
        assert torch.equal(model.qkv.weight, fused)
        assert torch.equal(model.embed.weight, sent["embed.weight"])
        assert torch.equal(model.norm.weight, sent["norm.weight"])
        assert torch.equal(model.rotary.frequencies, torch.arange(4.0))
        assert model.lm_head.weight is model.embed.weight
        assert torch.equal(model.lm_head.packed[-1], sent["embed.weight"])
    logging.getLogger("vllm").removeHandler(caplog.handler)
    after = {name: p.data_ptr() for name, p in model.named_parameters()}
    assert after == addresses, "CUDA graphs read where the weights were"
    assert "Failed to load" not in caplog.text
    pair.close()


def test_buffers_that_the_trainer_has_replaced_are_let_go() -> None:
    engine = engine_of(Model())
    buffers = [HostBuffer(100 + i) for i in range(4)]
    for buffer in buffers:
        engine._attach(buffer.handle)
        engine._attach(buffer.handle)
    sizes = [memory.numel() for memory in engine._attached.values()]
    assert sizes == [102, 103]
    engine.shutdown()
    assert not engine._attached
