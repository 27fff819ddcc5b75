"""Runs a function over a batch in micro-batches and puts its per-token results in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist

from verl.algorithms.aggregation import Counts, count_sampled
from verl.config.model import UpdateConfig
from verl.protocol import DataProto
from verl.utils.sequence_packing import (
    ModelInput,
    build_model_input,
    equalise_over_ranks,
    micro_batches_by_count,
    micro_batches_by_tokens,
)
from verl.workers.fsdp.engine import FSDPEngine


def iterate_micro_batches(
    data: DataProto, engine: FSDPEngine, config: UpdateConfig
) -> Iterator[ModelInput]:
    """Model inputs that together cover the batch; as many on every rank, some of which may be
    empty. Collective."""
    attention_mask = data.tensors["attention_mask"]
    lengths = attention_mask.sum(dim=1).tolist()
    if config.use_dynamic_bsz:
        limit = config.ppo_max_token_len_per_gpu
        groups = micro_batches_by_tokens(lengths, limit, padded=not engine.packed)
    else:
        groups = micro_batches_by_count(lengths, config.ppo_micro_batch_size)
    for group in equalise_over_ranks(groups, lengths, engine.device):
        yield build_model_input(
            data.tensors["input_ids"],
            attention_mask,
            data.tensors["responses"].shape[1],
            group,
            engine.packed,
            engine.device,
        )


def compute_per_token(
    data: DataProto,
    engine: FSDPEngine,
    config: UpdateConfig,
    function: Callable[[ModelInput], dict[str, torch.Tensor]],
) -> DataProto:
    """Applies ``function(input) -> {name: (n,)}`` to each micro-batch, without gradients. Returns
    (B, R) float32 tensors on the CPU, 0 where there is no response token."""
    shape = data.tensors["responses"].shape
    results: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for batch in iterate_micro_batches(data, engine, config):
            for name, values in function(batch).items():
                full = results.setdefault(name, torch.zeros(shape, dtype=torch.float32))
                full[batch.sample, batch.offset] = values.float().cpu()
    return DataProto.from_dict(results)


def global_counts(data: DataProto, device: torch.device) -> Counts:
    """What the mini-batch holds over all ranks: the denominators of every loss."""
    counts = count_sampled(data.tensors["response_mask"]).to(device)
    dist.all_reduce(counts)
    return Counts(*counts.tolist())


def sum_over_ranks(sums: dict[str, float], device: torch.device) -> dict[str, float]:
    """Adds each entry over all ranks."""
    values = torch.tensor(list(sums.values()), dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(sums, values.tolist(), strict=True))


def metrics_of(role: str, values: dict[str, float]) -> DataProto:
    """The answer of an update: ``role/name`` to number in ``meta_info["metrics"]``."""
    return DataProto(meta_info={"metrics": {f"{role}/{n}": v for n, v in values.items()}})
