"""DataProto: what goes in comes out, whatever is done in between."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verl import DataProto
from verl.protocol import pad_dataproto_to_divisor, unpad_dataproto


def _batch(size: int) -> DataProto:
    return DataProto.from_dict(
        tensors={"x": torch.arange(size * 2).reshape(size, 2), "y": torch.arange(size).float()},
        non_tensors={"name": [f"n{i}" for i in range(size)]},
        meta_info={"step": 3},
    )


def _assert_same(a: DataProto, b: DataProto) -> None:
    assert a.batch is not None
    assert b.batch is not None
    assert set(a.batch.keys()) == set(b.batch.keys())
    for key in a.batch.keys():  # noqa: SIM118  (iterating a TensorDict iterates its rows)
        assert torch.equal(a.batch[key], b.batch[key])
    assert {k: v.tolist() for k, v in a.non_tensor_batch.items()} == {
        k: v.tolist() for k, v in b.non_tensor_batch.items()
    }
    assert a.meta_info == b.meta_info


@settings(deadline=None)
@given(size=st.integers(1, 12), parts=st.integers(1, 12))
def test_split_and_concat_are_inverse(size: int, parts: int) -> None:
    data = _batch(size)
    _assert_same(DataProto.concat(data.split(parts)), data)


@settings(deadline=None)
@given(size=st.integers(1, 12), divisor=st.integers(1, 8))
def test_pad_and_unpad_are_inverse(size: int, divisor: int) -> None:
    data = _batch(size)
    padded, pad = pad_dataproto_to_divisor(data, divisor)
    assert len(padded) % divisor == 0
    _assert_same(unpad_dataproto(padded, pad), data)


@settings(deadline=None)
@given(order=st.permutations(range(6)))
def test_reorder_and_back(order: list[int]) -> None:
    data = _batch(6)
    moved = data.reorder(order)
    assert moved.non_tensor_batch["name"].tolist() == [f"n{i}" for i in order]
    _assert_same(moved.reorder(np.argsort(order).tolist()), data)


def test_repeat() -> None:
    data = _batch(2)
    names = lambda d: d.non_tensor_batch["name"].tolist()  # noqa: E731
    assert names(data.repeat(2)) == ["n0", "n0", "n1", "n1"]
    assert names(data.repeat(2, interleave=False)) == ["n0", "n1", "n0", "n1"]


def test_select_pop_union() -> None:
    data = _batch(3)
    whole = _batch(3)
    taken = data.pop(["x"], ["name"])
    assert data.batch is not None
    assert "x" not in data.batch.keys()  # noqa: SIM118
    assert "name" not in data.non_tensor_batch
    _assert_same(data.union(taken), whole)
    assert list(whole.select(["y"], []).batch.keys()) == ["y"]  # type: ignore[union-attr]
    with pytest.raises(KeyError, match="nothing"):
        whole.select(["nothing"])


def test_union_refuses_contradictions() -> None:
    with pytest.raises(ValueError, match="'x'"):
        _batch(3).union(DataProto.from_dict({"x": torch.zeros(3, 2, dtype=torch.int64)}))
    with pytest.raises(ValueError, match="3 and 4"):
        _batch(3).union(_batch(4))
    with pytest.raises(ValueError, match="step"):
        _batch(3).union(DataProto.from_dict({"z": torch.zeros(3)}, meta_info={"step": 4}))


def test_chunks_must_divide() -> None:
    assert [len(c) for c in _batch(6).chunk(3)] == [2, 2, 2]
    with pytest.raises(ValueError, match="5 samples"):
        _batch(5).chunk(2)


def test_reorder_must_be_a_permutation() -> None:
    with pytest.raises(ValueError, match="permutation"):
        _batch(3).reorder([0, 0, 1])


def test_a_slice_is_no_copy_and_other_rows_are() -> None:
    data = _batch(4)
    assert data.batch is not None
    for index, shared in ((slice(2, 4), True), ([2, 3], False)):
        part = data[index].batch
        assert part is not None
        assert (part["y"].data_ptr() == data.batch["y"][2:].data_ptr()) is shared


def test_index_by_mask_and_slice() -> None:
    data = _batch(4)
    kept = data[np.array([True, False, True, False])]
    assert kept.non_tensor_batch["name"].tolist() == ["n0", "n2"]
    assert data[1:3].non_tensor_batch["name"].tolist() == ["n1", "n2"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_survives_pickling(dtype: torch.dtype) -> None:
    data = DataProto.from_dict(
        {"x": torch.tensor([[1, 0], [1, 1]]).to(dtype)}, {"o": [{"a": 1}, None]}
    )
    _assert_same(pickle.loads(pickle.dumps(data)), data)


def test_large_tensors_travel_out_of_band() -> None:
    """Ray hands such buffers over in shared memory instead of copying them into the pickle."""
    data = DataProto.from_dict({"x": torch.zeros(1000, 100)})
    buffers: list[pickle.PickleBuffer] = []
    small = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    assert len(small) < 5_000
    assert sum(len(b.raw()) for b in buffers) >= 400_000


def test_lengths_must_agree() -> None:
    with pytest.raises((ValueError, RuntimeError)):
        DataProto.from_dict({"x": torch.zeros(3)}, {"name": ["a"]})
