"""DataProto: the one container that travels between driver and workers.

Tensors (``batch``), per-sample objects (``non_tensor_batch``) and batch-wide facts (``meta_info``)
stay aligned: every tensor and array has the same first dimension, checked on construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from tensordict import TensorDict

T = TypeVar("T")


@dataclass
class DataProto:
    """A batch of N samples.

    Attributes:
        batch: tensors of shape (N, …), or None for a batch without tensors.
        non_tensor_batch: numpy arrays of shape (N, …), usually of dtype object.
        meta_info: facts about the whole batch; not split, not padded.

    Pickles as numpy views of the tensors, so Ray moves them through its object store without an
    extra copy; a receiver copies the tensors out of it, and may not write to numeric arrays.

    Raises:
        ValueError: if lengths disagree.
    """

    batch: TensorDict | None = None
    non_tensor_batch: dict[str, np.ndarray] = field(default_factory=dict)
    meta_info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: len(array) for name, array in self.non_tensor_batch.items()}
        if self.batch is not None:
            lengths["<tensors>"] = int(self.batch.batch_size[0])
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of a DataProto differ in length: {lengths}")

    # -- construction and pickling ---------------------------------------------------------

    @classmethod
    def from_dict(
        cls,
        tensors: Mapping[str, torch.Tensor] | None = None,
        non_tensors: Mapping[str, Any] | None = None,
        meta_info: Mapping[str, Any] | None = None,
    ) -> DataProto:
        """Builds a batch; lists in ``non_tensors`` become object arrays. A ValueError if first
        dimensions differ."""
        batch = None
        if tensors:
            sizes = {name: tensor.shape[0] for name, tensor in tensors.items()}
            if len(set(sizes.values())) > 1:
                raise ValueError(f"tensors of a DataProto differ in length: {sizes}")
            batch = TensorDict(dict(tensors), batch_size=[next(iter(sizes.values()))])
        arrays = {name: _as_array(values) for name, values in (non_tensors or {}).items()}
        return cls(batch, arrays, dict(meta_info or {}))

    def __getstate__(self) -> dict[str, Any]:
        tensors: dict[str, Any] = {}
        for name, tensor in self._tensors().items():
            value = tensor.detach().cpu().contiguous()
            if value.dtype == torch.bfloat16:  # numpy has no bfloat16: carry its bits
                tensors[name] = ("bfloat16", value.view(torch.int16).numpy())
            else:
                tensors[name] = ("", value.numpy())
        return {
            "tensors": tensors if self.batch is not None else None,
            "non_tensors": self.non_tensor_batch,
            "meta_info": self.meta_info,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        batch = None
        if state["tensors"] is not None:
            tensors = {}
            for name, (tag, array) in state["tensors"].items():
                # torch refuses to alias Ray's read-only buffers without a warning; one copy here
                # makes the tensors safe to write.
                tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
                tensors[name] = tensor.view(torch.bfloat16) if tag == "bfloat16" else tensor
            batch = TensorDict(tensors, batch_size=[len(next(iter(tensors.values())))])
        self.batch = batch
        self.non_tensor_batch = state["non_tensors"]
        self.meta_info = state["meta_info"]

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {} if self.batch is None else dict(self.batch.items())

    # -- reading ---------------------------------------------------------------------------

    @property
    def tensors(self) -> TensorDict:
        """:attr:`batch`, which must be there."""
        assert self.batch is not None
        return self.batch

    def __len__(self) -> int:
        if self.batch is not None:
            return int(self.batch.batch_size[0])
        return len(next(iter(self.non_tensor_batch.values()), ()))

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray | torch.Tensor) -> DataProto:
        """The samples at ``index`` (slice, integers or a boolean mask) as a new DataProto, which
        shares a slice's data and copies that of other rows."""
        rows = of_arrays = index
        if not isinstance(index, slice):
            found = torch.as_tensor(index)
            rows = found.nonzero().flatten() if found.dtype == torch.bool else found.long()
            of_arrays = rows.numpy()
        batch = None if self.batch is None else self.batch[rows]
        arrays = {name: array[of_arrays] for name, array in self.non_tensor_batch.items()}
        return DataProto(batch, arrays, dict(self.meta_info))

    def select(
        self,
        batch_keys: Sequence[str] | None = None,
        non_tensor_batch_keys: Sequence[str] | None = None,
    ) -> DataProto:
        """Only the named columns (None keeps all of a kind); data is shared, not copied.

        Raises:
            KeyError: naming the missing columns and those there are.
        """
        tensors = _chosen(self._tensors(), batch_keys)
        arrays = _chosen(self.non_tensor_batch, non_tensor_batch_keys)
        return DataProto.from_dict(tensors, arrays, self.meta_info)

    # -- changing --------------------------------------------------------------------------

    def pop(
        self, batch_keys: Sequence[str] = (), non_tensor_batch_keys: Sequence[str] = ()
    ) -> DataProto:
        """Removes the named columns from this batch and returns them as another."""
        taken = self.select(batch_keys, non_tensor_batch_keys)
        for key in batch_keys:
            del self.tensors[key]
        for key in non_tensor_batch_keys:
            del self.non_tensor_batch[key]
        return taken

    def union(self, other: DataProto) -> DataProto:
        """Adds the other batch's columns to this one, in place, and returns it.

        Raises:
            ValueError: if lengths differ, or a column is in both with different content.
        """
        if len(self) != len(other):
            raise ValueError(f"cannot join batches of {len(self)} and {len(other)} samples")
        mine = self._tensors()
        for name, tensor in other._tensors().items():
            if name in mine and not torch.equal(mine[name], tensor):
                raise ValueError(f"tensor {name!r} is in both batches with different content")
            mine[name] = tensor
        if mine:
            self.batch = TensorDict(mine, batch_size=[len(self)])
        for name, array in other.non_tensor_batch.items():
            known = self.non_tensor_batch.get(name)
            if known is not None and not all(
                a is b or a == b for a, b in zip(known, array, strict=True)
            ):
                raise ValueError(f"array {name!r} is in both batches with different content")
            self.non_tensor_batch[name] = array
        for key, value in other.meta_info.items():
            if key in self.meta_info and self.meta_info[key] != value:
                raise ValueError(
                    f"meta_info {key!r} differs: {self.meta_info[key]!r} and {value!r}"
                )
            self.meta_info[key] = value
        return self

    def repeat(self, repeat_times: int, interleave: bool = True) -> DataProto:
        """Every sample ``repeat_times`` times: AABB if ``interleave``, else ABAB."""
        rows = torch.arange(len(self))
        rows = rows.repeat_interleave(repeat_times) if interleave else rows.repeat(repeat_times)
        return self[rows]

    def reorder(self, indices: Sequence[int] | torch.Tensor) -> DataProto:
        """The samples in another order.

        Raises:
            ValueError: if ``indices`` is not a permutation of all samples.
        """
        order = torch.as_tensor(indices).long()
        if not torch.equal(order.sort().values, torch.arange(len(self))):
            raise ValueError(f"indices are not a permutation of {len(self)} samples")
        return self[order]

    # -- splitting and joining -------------------------------------------------------------

    def chunk(self, chunks: int) -> list[DataProto]:
        """``chunks`` equal parts, in order.

        Raises:
            ValueError: if the length is not divisible.
        """
        if len(self) % chunks:
            raise ValueError(
                f"{len(self)} samples do not split into {chunks} equal chunks; "
                "pad with pad_dataproto_to_divisor first"
            )
        return self.split(len(self) // chunks) if len(self) else [self] * chunks

    def split(self, split_size: int) -> list[DataProto]:
        """Parts of ``split_size`` samples, in order; the last may be shorter."""
        if split_size < 1:
            raise ValueError(f"split_size must be >= 1, got {split_size}")
        return [self[i : i + split_size] for i in range(0, len(self), split_size)]

    @staticmethod
    def concat(parts: Sequence[DataProto]) -> DataProto:
        """Joins batches with the same columns; ``meta_info`` is the first one's.

        Raises:
            ValueError: for no parts, or if columns differ.
        """
        if not parts:
            raise ValueError("cannot concat an empty list of DataProto")
        names = [(set(p._tensors()), set(p.non_tensor_batch)) for p in parts]
        if any(n != names[0] for n in names):
            raise ValueError(f"columns differ between the parts: {names}")
        tensors = {k: torch.cat([p.tensors[k] for p in parts]) for k in names[0][0]}
        arrays = {k: np.concatenate([p.non_tensor_batch[k] for p in parts]) for k in names[0][1]}
        return DataProto.from_dict(tensors, arrays, parts[0].meta_info)


def pad_dataproto_to_divisor(data: DataProto, divisor: int) -> tuple[DataProto, int]:
    """Repeats samples from the start until the length divides; returns it and the pad size."""
    pad_size = -len(data) % divisor
    if pad_size == 0:
        return data, 0
    if len(data) == 0:
        raise ValueError("cannot pad an empty DataProto")
    rows = torch.arange(pad_size) % len(data)
    return DataProto.concat([data, data[rows]]), pad_size


def unpad_dataproto(data: DataProto, pad_size: int) -> DataProto:
    """Drops what :func:`pad_dataproto_to_divisor` added."""
    return data[: len(data) - pad_size] if pad_size else data


def _as_array(values: Any) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def _chosen(columns: dict[str, T], wanted: Sequence[str] | None) -> dict[str, T]:
    if wanted is None:
        return columns
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise KeyError(f"no such columns: {missing}; there are: {sorted(columns)}")
    return {name: columns[name] for name in wanted}
