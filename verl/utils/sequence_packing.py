"""Cuts a batch into micro-batches and turns each into model input, padded or packed.

Guarantees: every sample is in exactly one micro-batch; all ranks get the same number of
micro-batches, which cost alike where nothing is padded; what a sample's tokens see does not depend
on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.nn.utils.rnn import pad_sequence

from verl.utils.balance import balanced_parts


def micro_batches_by_count(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices in groups of ``size``, sorted by length so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[i : i + size] for i in range(0, len(order), size)]


def micro_batches_by_tokens(
    lengths: Sequence[int], max_tokens: int, padded: bool
) -> list[list[int]]:
    """Indices in groups that hold at most ``max_tokens`` tokens (padding counted if ``padded``).

    A sample longer than the limit gets a group of its own. Without padding there are as few groups
    as fill up longest first, and they cost alike.
    """
    if not padded:
        return _even(lengths, _filled(lengths, max_tokens), max_tokens)
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if groups and lengths[i] * (len(groups[-1]) + 1) <= max_tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _filled(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Longest first, each into the first group with room."""
    groups: list[list[int]] = []
    used: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        room = (g for g, tokens in enumerate(used) if tokens + lengths[i] <= max_tokens)
        place = next(room, len(groups))
        if place == len(groups):
            groups.append([])
            used.append(0)
        groups[place].append(i)
        used[place] += lengths[i]
    return groups


def _even(lengths: Sequence[int], groups: list[list[int]], max_tokens: int) -> list[list[int]]:
    """As many groups that cost alike, unless that makes one too long."""
    even = balanced_parts(lengths, len(groups)) if groups else []
    fits = all(len(group) == 1 or sum(lengths[i] for i in group) <= max_tokens for group in even)
    return even if fits and all(even) else groups


def equalise_over_ranks(
    groups: list[list[int]], lengths: Sequence[int], device: torch.device
) -> list[list[int]]:
    """Splits groups until all ranks have as many as the rank with most, and puts the longest first:
    sharded passes must match, and wait for each other.

    A rank with too few samples to split gets empty groups, which the caller runs with a weight of
    zero.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return groups
    wanted = torch.tensor(len(groups), device=device)
    dist.all_reduce(wanted, op=dist.ReduceOp.MAX)

    def tokens(group: list[int]) -> int:
        return sum(lengths[i] for i in group)

    groups = list(groups)
    while len(groups) < int(wanted):
        divisible = [group for group in groups if len(group) > 1]
        if not divisible:
            groups.append([])
            continue
        group = max(divisible, key=tokens)
        groups.remove(group)
        halves = balanced_parts([lengths[i] for i in group], 2)
        groups += [[group[i] for i in half] for half in halves]
    return sorted(groups, key=tokens, reverse=True)


@dataclass(frozen=True)
class ModelInput:
    """What goes into the model, and where each target token's prediction lies in what comes out.

    Attributes:
        input_ids, position_ids: (b, s) int64; packed input has b = 1.
        attention_mask: (b, s) int64, None when packed.
        cu_seq_lens: (number of sequences + 1,) int32, where each packed sequence starts and the
            last one ends; None when padded.
        max_seq_len: tokens of the longest sequence.
        rows, columns: (n,) indices into (b, s) of the positions that predict a target.
        targets: (n,) the target tokens.
        sample, offset: (n,) on the CPU: each target's sequence in the batch, and its number among
            that sequence's response tokens.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    cu_seq_lens: torch.Tensor | None
    max_seq_len: int
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    sample: torch.Tensor
    offset: torch.Tensor


@dataclass(frozen=True)
class TokenSequence:
    """One sequence and the tokens in it whose prediction is wanted.

    Attributes:
        ids: (length,) int64.
        targets: (n,) int64 indices into ``ids``, each > 0.
        sample: the sequence's index in the batch.
        offset: (n,) int64, see :class:`ModelInput`.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    sample: int
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
    sequences = []
    for index in indices or [0]:
        ids = input_ids[index][attention_mask[index].bool()]
        count = int(attention_mask[index, start:].sum()) if indices else 0
        targets = torch.arange(len(ids) - count, len(ids))
        sequences.append(TokenSequence(ids, targets, index, torch.arange(count)))
    return lay_out(sequences, packed, device)


def lay_out(sequences: Sequence[TokenSequence], packed: bool, device: torch.device) -> ModelInput:
    """Puts sequences one after the other into one row, or each into a right-padded row."""
    lengths = [len(sequence.ids) for sequence in sequences]
    starts = torch.tensor([0, *lengths]).cumsum(0)
    if packed:
        ids = torch.cat([sequence.ids for sequence in sequences]).unsqueeze(0)
        positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0)
        mask, cu_seq_lens = None, starts.to(device, torch.int32)
        place = [(0, int(start)) for start in starts[:-1]]
    else:
        ids = pad_sequence([sequence.ids for sequence in sequences], batch_first=True)
        positions = torch.arange(max(lengths)).expand(len(sequences), max(lengths))
        mask = (positions < torch.tensor(lengths).unsqueeze(-1)).long().to(device)
        cu_seq_lens = None
        place = [(row, 0) for row in range(len(sequences))]
    # The position before a token predicts it.
    rows = [torch.full_like(s.targets, row) for s, (row, _) in zip(sequences, place, strict=True)]
    columns = [s.targets - 1 + start for s, (_, start) in zip(sequences, place, strict=True)]
    return ModelInput(
        input_ids=ids.to(device),
        position_ids=positions.to(device),
        attention_mask=mask,
        cu_seq_lens=cu_seq_lens,
        max_seq_len=max(lengths),
        rows=torch.cat(rows).to(device),
        columns=torch.cat(columns).to(device),
        targets=torch.cat([s.ids[s.targets] for s in sequences]).to(device),
        sample=torch.cat([torch.full_like(s.targets, s.sample) for s in sequences]),
        offset=torch.cat([s.offset for s in sequences]),
    )
