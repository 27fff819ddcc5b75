"""A worker class that looks into a sharded engine in real processes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2ForCausalLM

from verl.config.model import FSDPConfig, ModelConfig, OptimConfig
from verl.single_controller.dispatch import Dispatch, register
from verl.single_controller.worker import RankInfo, Worker
from verl.workers.fsdp import saving
from verl.workers.fsdp.engine import FSDPEngine
from verl.workers.fsdp.weights import (
    allocate_shards,
    load_from_rank_zero,
    parameters_on_meta,
    whole_parameters,
)

assert Qwen2ForCausalLM  # transformers loads it lazily; its code must not count as the model's


class EngineWorker(Worker):
    """Loads a model, saves it, and says how much memory that took at its peak."""

    def __init__(self, info: RankInfo, model: ModelConfig) -> None:
        super().__init__(info)
        self._config = model
        with _PeakMemory() as loading:
            self._engine = FSDPEngine(model, FSDPConfig(), self.device)
        self._loading = loading.nbytes

    @register(Dispatch.ONE_TO_ALL)
    def memory_of_loading(self) -> int:
        return self._loading

    @register(Dispatch.ONE_TO_ALL)
    def save(self, folder: str, max_file_bytes: int) -> int:
        before, saving._MAX_FILE_BYTES = saving._MAX_FILE_BYTES, max_file_bytes
        with _PeakMemory() as peak:
            self._engine.save(Path(folder))
        saving._MAX_FILE_BYTES = before
        return peak.nbytes

    @register(Dispatch.ONE_TO_ALL)
    def step_against_a_plain_loop(self) -> tuple[bool, float]:
        """Whether the optimizer is fused; the largest difference after ten steps from torch's
        unfused AdamW on whole tensors, with the same gradients."""
        engine = FSDPEngine(
            self._config, FSDPConfig(), self.device, "value", OptimConfig(lr=1e-3), 10
        )
        assert engine.optimizer is not None
        sharded = list(engine.model.parameters())
        plain = [torch.nn.Parameter(value.clone()) for _, value in engine.full_parameters()]
        options = {k: engine.optimizer.defaults[k] for k in ("lr", "betas", "eps", "weight_decay")}
        loop = torch.optim.AdamW(plain, **options, fused=False, foreach=False)
        generator = torch.Generator().manual_seed(0)
        for _ in range(10):
            for whole, part in zip(plain, sharded, strict=True):
                assert isinstance(part, DTensor)
                whole.grad = torch.randn(whole.shape, generator=generator)
                part.grad = distribute_tensor(
                    whole.grad, part.device_mesh, part.placements, src_data_rank=None
                )
            loop.step()
            engine.optimizer.step()
        pairs = zip(plain, engine.full_parameters(), strict=True)
        difference = max(float((one - other).abs().max()) for one, (_, other) in pairs)
        return bool(engine.optimizer.defaults["fused"]), difference

    @register(Dispatch.ONE_TO_ALL)
    def differences(self) -> list[str]:
        """What is not as in the checkpoint; whole copies are taken for it."""
        model = self._engine.model.pretrained
        return _differences(model, self._engine.full_parameters(), self._config.path)

    @register(Dispatch.ONE_TO_ALL)
    def differences_when_offloaded(self) -> list[str]:
        """The same of a model whose shards rest on the host."""
        path = self._config.path
        source = AutoModelForCausalLM.from_pretrained(path) if self.rank == 0 else None
        with parameters_on_meta():
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path))
        mesh = init_device_mesh("cpu", (self.world_size,))
        for module in (*model.model.layers, model):
            fully_shard(module, mesh=mesh, offload_policy=CPUOffloadPolicy(pin_memory=False))
        allocate_shards(model, torch.device("cpu"))
        load_from_rank_zero(model, source, self.device)
        model.checkpoint_name = lambda name: name
        found = _differences(model, whole_parameters(model, torch.device("cpu")), path)
        ids = torch.arange(8)[None]
        with torch.no_grad():
            logits = AutoModelForCausalLM.from_pretrained(path)(ids).logits
            if not torch.allclose(model(ids).logits, logits, atol=1e-5):
                found.append("logits")
        return found


def _differences(
    model: Any, parameters: Iterable[tuple[str, torch.Tensor]], path: str
) -> list[str]:
    whole = AutoModelForCausalLM.from_pretrained(path)
    expected = dict(whole.named_parameters())
    found = [name for name, value in parameters if not torch.equal(value, expected.pop(name))]
    buffers = dict(whole.named_buffers())
    found += list(expected)
    found += [n for n, b in model.named_buffers() if not torch.equal(b, buffers[n])]
    if whole.config.tie_word_embeddings and model.lm_head.weight is not (
        model.model.embed_tokens.weight
    ):
        found.append("tie of lm_head")
    return found


class _PeakMemory:
    """Bytes that the process's resident memory grew by at its peak inside the block."""

    def __enter__(self) -> _PeakMemory:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is the present size again
        self._before = _status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.nbytes = _status("VmHWM") - self._before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)
