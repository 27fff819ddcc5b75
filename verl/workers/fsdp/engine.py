"""One model, sharded by FSDP2 over all ranks, with its optimizer.

Guarantees: parameters are float32 masters; a step changes them only if loss and gradients are
finite; the gradient of a loss that is a sum over tokens divided by their global count does not
depend on world size, micro-batches, padding or packing.
"""

from __future__ import annotations

import math
from functools import cached_property, partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from verl.config.model import FSDPConfig, ModelConfig, OptimConfig
from verl.workers.fsdp.modelling import Head, build_model
from verl.workers.fsdp.saving import FORM, export_state, save_checkpoint, save_form
from verl.workers.fsdp.training_state import StateWriter, TrainingState
from verl.workers.fsdp.weights import (
    allocate_shards,
    load_from_rank_zero,
    parameter_shapes,
    parameters_on_meta,
    whole_parameters,
    whole_tensor,
)
from verl.workers.weight_transfer.buckets import NamedShapes, NamedTensors


class FSDPEngine:
    """A sharded model.

    Args:
        device: of the computation.
        head: "lm" for a policy, "value" for a critic; see :mod:`verl.workers.fsdp.modelling`.
        optim_config: None for a model that is not trained.
        total_steps: optimizer steps of the whole run, for the schedule.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        fsdp_config: FSDPConfig,
        device: torch.device,
        head: Head = "lm",
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
        trained = optim_config is not None
        source = None
        if dist.get_rank() == 0:
            source = build_model(model_config, head, device, trained)
        with parameters_on_meta():
            self.model = build_model(model_config, head, device, trained, with_weights=False)
        self._shard()
        load_from_rank_zero(self.model, source, device)
        del source
        self.optimizer: torch.optim.Optimizer | None = None
        if optim_config is not None:
            self.optim_config = optim_config
            self.optimizer = torch.optim.AdamW(
                [p for p in self.model.parameters() if p.requires_grad],
                lr=optim_config.lr,
                betas=(optim_config.betas[0], optim_config.betas[1]),
                weight_decay=optim_config.weight_decay,
                fused=True,  # offloaded and on the CPU as well: it uses all of torch's threads
            )
            self.scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer, partial(_lr_factor, optim_config, total_steps)
            )
            self.state = TrainingState(self.model, self.optimizer, self.scheduler)

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
        for module in (*self.model.decoder_layers, self.model):
            fully_shard(
                module,
                mesh=mesh,
                reshard_after_forward=reshard,
                mp_policy=precision,
                offload_policy=policy,
            )
        allocate_shards(self.model, torch.device("cpu") if self._offload else self.device)

    # -- optimisation ----------------------------------------------------------------------

    def optimizer_step(self) -> dict[str, float]:
        """Clips, steps and advances the schedule; with a non-finite norm nothing changes but the
        schedule. Returns metrics: ``grad_norm``, ``lr`` of this step, ``nonfinite_steps``."""
        assert self.optimizer is not None
        lr = float(self.optimizer.param_groups[0]["lr"])
        clipped = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.optim_config.grad_clip
        )
        norm = float(whole_tensor(clipped))
        finite = math.isfinite(norm)
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        return {"grad_norm": norm, "lr": lr, "nonfinite_steps": float(not finite)}

    # -- weights out -----------------------------------------------------------------------

    def parameter_shapes(self) -> NamedShapes:
        """Names and whole shapes of what :meth:`full_parameters` yields."""
        return parameter_shapes(self.model)

    def full_parameters(self, dtype: torch.dtype = torch.float32) -> NamedTensors:
        """See :func:`whole_parameters`."""
        return whole_parameters(self.model, self.device, dtype)

    def save(self, folder: Path) -> None:
        """Writes a Hugging Face checkpoint with the tokenizer; whole or not at all. Collective."""
        save_checkpoint(self.model, self.device, self.config.path, folder)

    # -- the training state ----------------------------------------------------------------

    @cached_property
    def state_writer(self) -> StateWriter:
        """Writes this model's states; the first use is collective."""
        return StateWriter()

    def begin_save(self, state: Path, export: Path | None) -> None:
        """Copies the training state to host memory and starts to write it. Collective; the save
        before must have been finished.

        Args:
            state: folder of the training state; it holds the model's form as well, from which
                together :func:`export_state` makes a Hugging Face checkpoint.
            export: where rank 0 then writes that checkpoint; None writes none.
        """

        def write_form() -> None:
            (state / FORM).mkdir()
            save_form(self.model, self.config.path, state / FORM)

        def write_export() -> None:
            if export is not None:
                export_state(state, export)

        self.state_writer.begin(self.state.copy_to_host(), state, write_form, write_export)


def _lr_factor(config: OptimConfig, total_steps: int, step: int) -> float:
    """On the peak learning rate, in an optimizer step counted from 0."""
    if step < config.lr_warmup_steps:
        return (step + 1) / config.lr_warmup_steps
    if config.warmup_style == "constant":
        return 1.0
    span = max(1, total_steps - config.lr_warmup_steps)
    progress = min(1.0, (step - config.lr_warmup_steps) / span)
    linear = config.warmup_style == "linear"
    shape = 1 - progress if linear else (1 + math.cos(math.pi * progress)) / 2
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * shape
