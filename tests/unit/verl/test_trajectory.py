"""Trajectories and what is derived from them; micro-batches and packing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verl.trajectory import Segment, SegmentKind, Trajectory, collate
from verl.utils.sequence_packing import (
    build_model_input,
    micro_batches_by_count,
    micro_batches_by_tokens,
)

TOKENS = st.lists(st.integers(0, 50), max_size=6).map(tuple)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    """Prompts and any alternation of actions and observations; token 0 doubles as padding."""
    prompt = draw(st.lists(st.integers(0, 50), min_size=1, max_size=6).map(tuple))
    segments = [Segment(SegmentKind.PROMPT, prompt)]
    for kind, ids in draw(
        st.lists(
            st.tuples(st.sampled_from([SegmentKind.ACTION, SegmentKind.OBSERVATION]), TOKENS),
            max_size=5,
        )
    ):
        log_probs = tuple(-0.5 - i for i in range(len(ids))) if kind is SegmentKind.ACTION else ()
        segments.append(Segment(kind, ids, log_probs))
    return Trajectory("u", segments)


BATCHES = st.lists(trajectories(), min_size=1, max_size=5)


@settings(deadline=None)
@given(BATCHES)
def test_collate_keeps_every_token_in_order(batch: list[Trajectory]) -> None:
    data = collate(batch, pad_token_id=0)
    assert data.batch is not None
    for i, trajectory in enumerate(batch):
        row = {key: data.batch[key][i] for key in data.batch.keys()}  # noqa: SIM118
        real = row["attention_mask"].bool()
        assert row["input_ids"][real].tolist() == trajectory.token_ids
        assert row["position_ids"][real].tolist() == list(range(len(trajectory.token_ids)))
        kept = row["response_attention_mask"].bool()
        assert row["responses"][kept].tolist() == trajectory.response_ids
        assert row["response_mask"][kept].tolist() == trajectory.response_mask
        assert row["response_mask"][~kept].sum() == 0
        assert row["rollout_log_probs"][kept].tolist() == trajectory.log_probs


@settings(deadline=None)
@given(BATCHES)
def test_mask_marks_sampled_tokens_and_no_other(batch: list[Trajectory]) -> None:
    for trajectory in batch:
        sampled = [
            token
            for segment in trajectory.segments
            if segment.kind is SegmentKind.ACTION
            for token in segment.token_ids
        ]
        marked = [
            token
            for token, mask in zip(trajectory.response_ids, trajectory.response_mask, strict=True)
            if mask
        ]
        assert marked == sampled


def test_log_probs_belong_to_actions() -> None:
    with pytest.raises(ValueError, match="2 log_probs, got 1"):
        Segment(SegmentKind.ACTION, (1, 2), (-0.1,))
    with pytest.raises(ValueError, match="0 log_probs, got 1"):
        Segment(SegmentKind.OBSERVATION, (1,), (-0.1,))


def test_nothing_to_collate() -> None:
    with pytest.raises(ValueError, match="empty"):
        collate([], 0)


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=20)


@given(LENGTHS, st.integers(1, 8))
def test_micro_batches_by_count_cover_all_once(lengths: list[int], size: int) -> None:
    groups = micro_batches_by_count(lengths, size)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(len(group) <= size for group in groups)


@given(LENGTHS, st.integers(1, 60), st.booleans())
def test_micro_batches_by_tokens_keep_the_limit(
    lengths: list[int], limit: int, padded: bool
) -> None:
    groups = micro_batches_by_tokens(lengths, limit, padded)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        own = [lengths[i] for i in group]
        tokens = max(own) * len(own) if padded else sum(own)
        assert tokens <= limit or len(group) == 1


@settings(deadline=None)
@given(BATCHES, st.booleans())
def test_model_input_points_at_the_position_before_each_response_token(
    batch: list[Trajectory], packed: bool
) -> None:
    data = collate(batch, pad_token_id=0)
    assert data.batch is not None
    width = data.batch["responses"].shape[1]
    indices = list(range(len(batch)))
    given_ids = data.batch["input_ids"]
    model_input = build_model_input(
        given_ids, data.batch["attention_mask"], width, indices, packed, torch.device("cpu")
    )
    expected = [
        (i, offset, token)
        for i, trajectory in enumerate(batch)
        for offset, token in enumerate(trajectory.response_ids)
    ]
    found = list(
        zip(
            model_input.sample.tolist(),
            model_input.offset.tolist(),
            model_input.targets.tolist(),
            strict=True,
        )
    )
    assert found == expected
    positions = model_input.position_ids[model_input.rows, model_input.columns]
    for (i, offset, _), position in zip(expected, positions.tolist(), strict=True):
        assert position == len(batch[i].prompt_ids) + offset - 1
