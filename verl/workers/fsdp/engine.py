"""One model, sharded by FSDP2 over all ranks, with its optimizer.

Guarantees: parameters are float32 masters; a step changes them only if loss and gradients are
finite; the gradient of a loss that is a sum over tokens divided by their global count does not
depend on world size, micro-batches, padding or packing.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification

from verl.config.model import FSDPConfig, ModelConfig, OptimConfig
from verl.utils.device import resolve_attention
from verl.utils.generation_config import repair_generation_config
from verl.utils.sequence_packing import ModelInput

_TOKENIZER_FILES = (
    "tokenizer",
    "special_tokens",
    "chat_template",
    "vocab",
    "merges",
    "added_tokens",
)


class FSDPEngine:
    """A sharded model.

    Args:
        model_config: which model, in which precision.
        fsdp_config: where shards rest.
        device: of the computation.
        head: "lm" for a policy, "value" for a critic (token classification with one label).
        optim_config: None for a model that is not trained.
        total_steps: optimizer steps of the whole run, for the schedule.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        fsdp_config: FSDPConfig,
        device: torch.device,
        head: str = "lm",
        optim_config: OptimConfig | None = None,
        total_steps: int = 1,
    ) -> None:
        self.config = model_config
        self.device = device
        self.packed = model_config.use_remove_padding
        # FSDP2 offloads parameters and, with them, gradients and optimizer state.
        self._offload = device.type == "cuda" and (
            fsdp_config.param_offload or fsdp_config.optimizer_offload
        )
        self.model = _load_model(model_config, device, head, trained=optim_config is not None)
        self._shard()
        self.optimizer: torch.optim.Optimizer | None = None
        if optim_config is not None:
            self.optim_config = optim_config
            self.optimizer = torch.optim.AdamW(
                self.model.parameters(),
                lr=optim_config.lr,
                betas=(optim_config.betas[0], optim_config.betas[1]),
                weight_decay=optim_config.weight_decay,
                fused=device.type == "cuda" and not self._offload,
            )
            self.scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer, _schedule(optim_config, total_steps)
            )

    def _shard(self) -> None:
        mesh = init_device_mesh(self.device.type, (dist.get_world_size(),))
        half = self.config.dtype == "bfloat16"
        precision = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if half else None, reduce_dtype=torch.float32
        )
        policy: OffloadPolicy = CPUOffloadPolicy() if self._offload else OffloadPolicy()
        # Keeping the gathered parameters between forward and backward saves a gather per layer;
        # on CPU memory is shared by all ranks anyway and gathers are slow.
        reshard = self.device.type == "cuda"
        for module in (*_decoder_layers(self.model), self.model):
            fully_shard(
                module,
                mesh=mesh,
                reshard_after_forward=reshard,
                mp_policy=precision,
                offload_policy=policy,
            )
        if not self._offload:
            self.model.to(self.device)

    # -- forward ---------------------------------------------------------------------------

    def forward(self, batch: ModelInput) -> torch.Tensor:
        """The head's output at the positions that predict response tokens: (n, vocabulary or 1)."""
        hidden: torch.Tensor = self.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).logits
        return hidden[batch.rows, batch.columns]

    # -- optimisation ----------------------------------------------------------------------

    def optimizer_step(self) -> tuple[float, bool]:
        """Clips, steps and advances the schedule; returns the gradient norm and whether it stepped.

        With a non-finite norm nothing changes but the schedule.
        """
        assert self.optimizer is not None
        norm_tensor: Any = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.optim_config.grad_clip
        )
        if isinstance(norm_tensor, DTensor):
            norm_tensor = norm_tensor.full_tensor()
        norm = float(norm_tensor)
        finite = math.isfinite(norm)
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        return norm, finite

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        assert self.optimizer is not None
        return float(self.optimizer.param_groups[0]["lr"])

    # -- weights out -----------------------------------------------------------------------

    def full_parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Hugging Face names and whole tensors, one at a time; a collective on all ranks.

        Tied parameters come once, under the name the model lists first.
        """
        for name, parameter in self.model.named_parameters():
            value: Any = parameter.detach()
            if isinstance(value, DTensor):
                # Offloaded shards are gathered on the accelerator.
                shard: Any = value.to(self.device) if self._offload else value
                value = shard.full_tensor()
            yield name, value

    def save(self, folder: Path) -> None:
        """Writes a Hugging Face checkpoint with the tokenizer; whole or not at all. Collective."""
        state = {name: value.cpu().clone() for name, value in self.full_parameters()}
        if dist.get_rank() == 0:
            temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            pretrained: Any = self.model
            pretrained.save_pretrained(temporary, state_dict=state)
            _copy_tokenizer(Path(self.config.path), temporary)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        dist.barrier()


def _load_model(
    config: ModelConfig, device: torch.device, head: str, trained: bool
) -> torch.nn.Module:
    hf_config = AutoConfig.from_pretrained(config.path)
    model: Any
    options: dict[str, Any] = {
        "dtype": torch.float32,
        "attn_implementation": resolve_attention(config.attn_implementation, device.type),
    }
    if head == "value":
        hf_config.num_labels = 1
        hf_config.classifier_dropout = 0.0
        model = AutoModelForTokenClassification.from_pretrained(
            config.path, config=hf_config, **options
        )
        # A value of 0 everywhere is the neutral start; the checkpoint has no such head.
        torch.nn.init.zeros_(model.score.weight)
        torch.nn.init.zeros_(model.score.bias)
    else:
        model = AutoModelForCausalLM.from_pretrained(config.path, config=hf_config, **options)
        repair_generation_config(model)
    if trained and config.enable_gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train(trained)
    model.requires_grad_(trained)
    loaded: torch.nn.Module = model
    return loaded


def _decoder_layers(model: torch.nn.Module) -> torch.nn.ModuleList:
    pretrained: Any = model
    layers: torch.nn.ModuleList = getattr(pretrained, pretrained.base_model_prefix).layers
    return layers


def _schedule(config: OptimConfig, total_steps: int) -> Callable[[int], float]:
    """Factor on the peak learning rate by optimizer step."""

    def factor(step: int) -> float:
        if step < config.lr_warmup_steps:
            return (step + 1) / config.lr_warmup_steps
        if config.warmup_style == "constant":
            return 1.0
        span = max(1, total_steps - config.lr_warmup_steps)
        progress = min(1.0, (step - config.lr_warmup_steps) / span)
        shape = (
            1 - progress
            if config.warmup_style == "linear"
            else (1 + math.cos(math.pi * progress)) / 2
        )
        return config.min_lr_ratio + (1 - config.min_lr_ratio) * shape

    return factor


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Copies tokenizer files byte for byte; a hub name is loaded and saved instead."""
    if source.is_dir():
        for file in source.iterdir():
            if file.name.startswith(_TOKENIZER_FILES):
                shutil.copy2(file, target / file.name)
        return
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(str(source)).save_pretrained(target)
