"""Cuts a batch into micro-batches and turns each into model input, padded or packed.

Guarantees: every sample is in exactly one micro-batch; all ranks get the same number of
micro-batches; what a sample's tokens see does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist


def micro_batches_by_count(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices in groups of ``size``, sorted by length so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[i : i + size] for i in range(0, len(order), size)]


def micro_batches_by_tokens(
    lengths: Sequence[int], max_tokens: int, padded: bool
) -> list[list[int]]:
    """Indices in groups that hold at most ``max_tokens`` tokens (padding counted if ``padded``).

    A sample longer than the limit gets a group of its own.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if groups:
            group = groups[-1]
            used = sum(lengths[j] for j in group)
            total = lengths[i] * (len(group) + 1) if padded else used + lengths[i]
            if total <= max_tokens:
                group.append(i)
                continue
        groups.append([i])
    return groups


def equalise_over_ranks(groups: list[list[int]], device: torch.device) -> list[list[int]]:
    """Splits groups until all ranks have as many as the rank with most; sharded passes must match.

    A rank with too few samples to split repeats none: it gets empty groups, which the caller runs
    with a weight of zero.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return groups
    wanted = torch.tensor(len(groups), device=device)
    dist.all_reduce(wanted, op=dist.ReduceOp.MAX)
    groups = list(groups)
    while len(groups) < int(wanted):
        largest = max(range(len(groups)), key=lambda i: len(groups[i]), default=None)
        if largest is None or len(groups[largest]) < 2:
            groups.append([])
            continue
        group = groups.pop(largest)
        groups += [group[: len(group) // 2], group[len(group) // 2 :]]
    return groups


@dataclass(frozen=True)
class ModelInput:
    """What goes into the model, and where each response token's prediction lies in what comes out.

    Attributes:
        input_ids, position_ids: (b, s) int64; packed input has b = 1.
        attention_mask: (b, s) int64, None when packed (positions tell the sequences apart).
        rows, columns: (n,) indices into (b, s) of the positions that predict a response token.
        targets: (n,) the response tokens.
        sample, offset: (n,) where each belongs in the (B, R) response tensors.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    sample: torch.Tensor
    offset: torch.Tensor


def build_model_input(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    response_length: int,
    indices: Sequence[int],
    packed: bool,
    device: torch.device,
) -> ModelInput:
    """Model input of some samples of a batch that :func:`verl.trajectory.collate` made.

    Args:
        input_ids, attention_mask: (B, P + R), prompts left-padded, responses right-padded.
        response_length: R.
        indices: the samples; an empty list runs sample 0 and takes nothing from it.
    """
    start = input_ids.shape[1] - response_length
    chosen = list(indices) or [0]
    sequences = [input_ids[i][attention_mask[i].bool()] for i in chosen]
    response_counts = [int(attention_mask[i, start:].sum()) for i in chosen]
    rows: list[torch.Tensor] = []
    columns: list[torch.Tensor] = []
    sample: list[torch.Tensor] = []
    offset: list[torch.Tensor] = []
    base = 0
    for row, (index, sequence, count) in enumerate(
        zip(chosen, sequences, response_counts, strict=True)
    ):
        kept = count if indices else 0
        # The position before a token predicts it.
        first = len(sequence) - count - 1
        columns.append(torch.arange(first, first + kept) + (base if packed else 0))
        rows.append(torch.full((kept,), 0 if packed else row))
        sample.append(torch.full((kept,), index))
        offset.append(torch.arange(kept))
        base += len(sequence)
    targets = [
        s[len(s) - c :][: c if indices else 0]
        for s, c in zip(sequences, response_counts, strict=True)
    ]
    if packed:
        ids = torch.cat(sequences).unsqueeze(0)
        positions = torch.cat([torch.arange(len(s)) for s in sequences]).unsqueeze(0)
        mask = None
    else:
        width = max(len(s) for s in sequences)
        ids = torch.zeros(len(sequences), width, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        positions = torch.arange(width).expand(len(sequences), width)
    return ModelInput(
        input_ids=ids.to(device),
        position_ids=positions.to(device),
        attention_mask=None if mask is None else mask.to(device),
        rows=torch.cat(rows).to(device),
        columns=torch.cat(columns).to(device),
        targets=torch.cat(targets).to(device),
        sample=torch.cat(sample),
        offset=torch.cat(offset),
    )
