"""Weights go over in bounded buckets of plain values, and memory is given back in time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing import reductions

from verl.config.rollout import RolloutConfig
from verl.config.validation import ConfigError
from verl.workers.rollout.vllm_replica import ReplicaSettings, VLLMReplica
from verl.workers.weight_transfer import buffers, sender
from verl.workers.weight_transfer.buckets import (
    BucketPlan,
    FilledBucket,
    Slot,
    merge_sources,
    plan_buckets,
)
from verl.workers.weight_transfer.buffers import (
    HostBuffer,
    attach_buffer,
    without_expandable_segments,
)
from verl.workers.weight_transfer.sender import BucketSender, BufferPair

CPU = torch.device("cpu")
SHAPES = [
    ("embedding", torch.Size((50, 8))),
    ("query", torch.Size((8, 8))),
    ("bias", torch.Size((3,))),
    ("head", torch.Size((5, 8))),
]


@pytest.mark.parametrize("max_bytes", [1, 300, 600, 1024, 10**9])
def test_each_tensor_lies_whole_in_one_bucket(max_bytes: int) -> None:
    plan = plan_buckets(SHAPES, torch.bfloat16, max_bytes)
    slots = [slot for bucket in plan.buckets for slot in bucket]
    assert [(slot.name, torch.Size(slot.shape)) for slot in slots] == SHAPES
    for number, bucket in enumerate(plan.buckets):
        ends = [slot.offset + slot.nbytes for slot in bucket]
        assert ends[-1] <= max_bytes or len(bucket) == 1
        assert ends[-1] <= plan.buffer_size(number)
        starts = [slot.offset for slot in bucket]
        assert all(start >= end for start, end in zip(starts[1:], ends[:-1], strict=True))
    assert [slot.nbytes for slot in slots] == [800, 128, 6, 80]


def test_a_tensor_larger_than_a_bucket_has_one_of_its_own() -> None:
    plan = plan_buckets(SHAPES, torch.bfloat16, 550)
    assert [[slot.name for slot in bucket] for bucket in plan.buckets] == [
        ["embedding"],
        ["query", "bias"],
        ["head"],
    ]
    assert [plan.buffer_size(number) for number in range(3)] == [800, 262, 800]


def test_a_bucket_must_have_a_size() -> None:
    with pytest.raises(ConfigError, match="update_weights_bucket_megabytes"):
        RolloutConfig(update_weights_bucket_megabytes=0)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES}


def sender_of(plan: BucketPlan, buffer_pair: BufferPair | None) -> BucketSender:
    gathered: Iterator[tuple[str, torch.Tensor]] = iter(
        [(name, tensor.to(plan.dtype)) for name, tensor in tensors().items()]
    )
    return BucketSender(plan, gathered, buffer_pair)


def test_the_reader_gets_every_tensor_out_of_two_buffers() -> None:
    plan = plan_buckets(SHAPES, torch.bfloat16, 200)
    pair = BufferPair(CPU)
    filling = sender_of(plan, pair)
    received, files = {}, set()
    for bucket in plan.buckets:
        handle = filling.fill().sources["cpu"]
        files.add(handle["file"])
        memory = attach_buffer(handle, CPU)
        received |= {s.name: s.view(memory, plan.dtype).clone() for s in bucket}
    pair.close()
    assert len(plan.buckets) > 2 == len(files)
    for name, tensor in tensors().items():
        assert torch.equal(received[name], tensor.bfloat16())


def test_the_bucket_before_is_whole_while_the_next_is_filled() -> None:
    plan = plan_buckets(SHAPES, torch.float32, 200)
    pair = BufferPair(CPU)
    filling = sender_of(plan, pair)
    first = filling.fill()
    memory = attach_buffer(first.sources["cpu"], CPU)
    filling.fill()
    assert torch.equal(first.slots[0].view(memory, plan.dtype), tensors()["embedding"])
    pair.close()


def test_the_hosts_buffers_stay_for_the_next_publication_and_grow_if_they_must() -> None:
    pair = BufferPair(CPU)
    handles = []
    for max_bytes in (200, 200, 10**6):
        plan = plan_buckets(SHAPES, torch.float32, max_bytes)
        handles.append(sender_of(plan, pair).fill().sources["cpu"])
        pair.release()
    assert handles[0] == handles[1] != handles[2]
    assert handles[2]["size"] > handles[1]["size"]
    pair.close()


def test_a_gpus_buffers_go_after_each_publication(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "create_buffer", lambda size, _: HostBuffer(size))
    pair = BufferPair(torch.device("cuda"))
    handle = pair.get(0, 100).handle
    assert pair.get(2, 100).handle == handle != pair.get(1, 100).handle
    pair.release()
    with pytest.raises(FileNotFoundError):
        attach_buffer(handle, CPU)


def test_a_rank_that_nobody_reads_from_holds_nothing() -> None:
    plan = plan_buckets(SHAPES, torch.float32, 10**6)
    assert sender_of(plan, None).fill().sources == {}


def test_tensors_in_another_order_than_planned_are_refused() -> None:
    plan = plan_buckets(reversed(SHAPES), torch.float32, 10**6)
    with pytest.raises(ValueError, match="embedding"):
        sender_of(plan, BufferPair(CPU)).fill()


def test_a_buffer_is_the_same_memory_in_another_process() -> None:
    buffer = HostBuffer(1000)
    buffer.memory.copy_(torch.arange(1000) % 251)
    code = (
        "import torch; from verl.workers.weight_transfer.buffers import attach_buffer;"
        f"memory = attach_buffer({buffer.handle!r}, torch.device('cpu'));"
        "assert torch.equal(memory, (torch.arange(1000) % 251).to(torch.uint8)); memory[7] = 77"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert buffer.memory[7] == 77
    buffer.close()
    with pytest.raises(FileNotFoundError):
        attach_buffer(buffer.handle, CPU)


# -- CUDA, without a GPU ----------------------------------------------------------------

EXPORT = (0, b"\x01segment", 4096, 512, b"/torch_1", 3, b"event", True)


def cuda_handle(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a GPU rank tells the engine, with the values that torch exports a storage with."""
    monkeypatch.setattr(torch.UntypedStorage, "_share_cuda_", lambda _: EXPORT)
    monkeypatch.setattr(torch.cuda, "MemPool", lambda: None)
    monkeypatch.setattr(torch.cuda, "use_mem_pool", lambda _: torch.no_grad())
    return buffers.CudaBuffer(4096, CPU).handle


def test_a_storage_is_rebuilt_from_what_torch_itself_rebuilds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[Any, ...]] = []

    def rebuild(*args: Any) -> torch.UntypedStorage:
        calls.append(args)
        return torch.UntypedStorage(4096)

    monkeypatch.setattr(torch.UntypedStorage, "_new_shared_cuda", rebuild)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    device, handle, size, offset, *rest = EXPORT
    reductions.rebuild_cuda_tensor(
        *(torch.Tensor, (4096,), (1,), 0, torch.UntypedStorage, torch.uint8),
        *(1, handle, size, offset, False, *rest),
    )
    exported = cuda_handle(monkeypatch)
    assert exported["device"] == device
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **{**k, "device": "cpu"}))
    memory = attach_buffer(exported, torch.device("cuda", 1))
    assert (memory.numel(), memory.dtype) == (4096, torch.uint8)
    assert calls[0] == calls[1]


def test_a_gpu_bucket_passes_vllms_encoding_without_pickle(
    monkeypatch: pytest.MonkeyPatch, policy_folder: Path
) -> None:
    policy = str(policy_folder)
    settings = ReplicaSettings.from_config(RolloutConfig(), policy, "cuda", 128, 0, sleep=True)
    monkeypatch.delenv("VLLM_ALLOW_INSECURE_SERIALIZATION", raising=False)
    replica = object.__new__(VLLMReplica)
    replica._settings = settings
    replica._set_environment()
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

    from verl.workers.weight_transfer.vllm_receiver import BucketUpdateInfo

    slots = [Slot("model.embed_tokens.weight", [4, 8], 0, 64), Slot("model.norm", [8], 256, 16)]
    bucket = FilledBucket("bfloat16", slots, {"GPU-1": cuda_handle(monkeypatch)})
    message = asdict(bucket)
    decoded = MsgpackDecoder().decode(MsgpackEncoder().encode(message))
    assert decoded == message
    assert tuple(decoded["sources"]["GPU-1"].values()) == EXPORT
    assert [Slot(**values) for values in BucketUpdateInfo(**decoded).slots] == slots


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("", ""),
        ("max_split_size_mb:512", "max_split_size_mb:512"),
        ("expandable_segments:True", "expandable_segments:False"),
        (
            "max_split_size_mb:512, expandable_segments: true,garbage_collection_threshold:0.6",
            "max_split_size_mb:512,expandable_segments:False,garbage_collection_threshold:0.6",
        ),
    ],
)
def test_only_expandable_segments_are_switched_off(settings: str, expected: str) -> None:
    assert without_expandable_segments(settings) == expected


def test_sources_of_all_ranks_make_one_bucket() -> None:
    slots = [Slot("weight", [1], 0, 2)]
    parts = [
        FilledBucket("bfloat16", slots, {"GPU-0": {"size": 1}}),
        FilledBucket("bfloat16", slots, {}),
    ]
    assert merge_sources(parts) == parts[0]
