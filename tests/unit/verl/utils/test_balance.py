"""Ranks and passes get sequences that cost alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verl.protocol import DataProto
from verl.trainer.ppo.update import computed_in_balance, mini_batches, spread_over_ranks
from verl.utils.balance import balanced_order, balanced_parts
from verl.utils.sequence_packing import micro_batches_by_tokens

COSTS = st.lists(st.integers(0, 500), min_size=1, max_size=40)


def uneven(count: int, seed: int = 0) -> list[int]:
    """Lengths of chats: most are short, some are ten times as long; never over 8192 tokens."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.lognormal(6.5, 0.9, count), 64, 8192).astype(int).tolist()


def slowest(costs: list[int], parts: list[list[int]]) -> float:
    """The dearest part's cost over the mean."""
    totals = [sum(costs[i] for i in part) for part in parts]
    return max(totals) * len(parts) / sum(totals)


@settings(deadline=None)
@given(COSTS, st.integers(1, 8))
def test_every_item_is_in_one_part_of_the_size_asked_for(costs: list[int], parts: int) -> None:
    found = balanced_parts(costs, parts)
    assert sorted(i for part in found for i in part) == list(range(len(costs)))
    assert sorted(balanced_order(costs, parts)) == list(range(len(costs)))
    sizes = [len(costs), *[0] * (parts - 1)]
    assert [len(part) for part in balanced_parts(costs, parts, sizes)] == sizes


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_of_as_many_sequences_hold_as_many_tokens(ranks: int) -> None:
    plainly = []
    for seed in range(5):
        lengths = uneven(32 * ranks, seed)
        order = balanced_order(lengths, ranks)
        chunks = [order[i : i + 32] for i in range(0, len(order), 32)]
        assert slowest(lengths, chunks) <= 1.01
        plain = [list(range(i, i + 32)) for i in range(0, len(order), 32)]
        plainly.append(slowest(lengths, plain))
    assert np.mean(plainly) > 1.05, "by count they differ"


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 items do not fill 2 parts"):
        balanced_parts([1, 2, 3], 2, [1, 1])


def test_micro_batches_are_few_and_cost_alike() -> None:
    lengths = uneven(64)
    groups = micro_batches_by_tokens(lengths, 16384, padded=False)
    assert len(groups) <= sum(lengths) // 16384 + 2
    assert max(sum(lengths[i] for i in group) for group in groups) <= 16384
    assert slowest(lengths, groups) <= 1.05


def batch(lengths: list[int]) -> DataProto:
    width = max(lengths)
    columns = {
        "row": torch.arange(len(lengths)),
        "attention_mask": (torch.arange(width) < torch.tensor(lengths)[:, None]).long(),
        "response_mask": torch.ones(len(lengths), 2, dtype=torch.int64),
    }
    return DataProto.from_dict(columns)


def test_each_rank_gets_as_many_tokens_of_a_mini_batch() -> None:
    parts = mini_batches(batch(uneven(96)), 48, 1, True, np.random.default_rng(0), ranks=4)
    for part in parts:
        tokens = [int(chunk.batch["attention_mask"].sum()) for chunk in part.chunk(4)]  # type: ignore[index]
        assert max(tokens) * 4 / sum(tokens) <= 1.05


def test_results_come_back_in_the_batchs_order() -> None:
    given = batch(uneven(10))
    assert spread_over_ranks(given, 3) != list(range(10))
    seen: list[int] = []

    def compute(data: DataProto) -> DataProto:
        assert data.batch is not None
        seen.extend(data.batch["row"].tolist())
        return DataProto.from_dict({"double": 2 * data.batch["row"]})

    result = computed_in_balance(compute, given, 3).batch
    assert result is not None
    assert result["double"].tolist() == [2 * row for row in range(10)]
    assert seen != sorted(seen)
