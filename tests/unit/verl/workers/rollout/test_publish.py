"""The order of a publication: what each side is told when, and what a failure leaves undone."""

from __future__ import annotations

from typing import Any

import pytest

from verl.workers.rollout.errors import RolloutEngineError
from verl.workers.rollout.publish import publish_weights
from verl.workers.weight_transfer.buckets import (
    FilledBucket,
    OpenedUpdate,
    Slot,
    WeightFormat,
    WeightTransferError,
)


class RecordingActor:
    """Two ranks on two GPUs, three buckets."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def free_unused_memory(self) -> None:
        self.log.append("trainer frees")

    def open_weight_update(self, readers: set[str], _: WeightFormat) -> list[OpenedUpdate]:
        gpus = ["GPU-0", "GPU-1"]
        return [OpenedUpdate(3, gpu if gpu in readers else None) for gpu in gpus]

    def fill_weight_bucket(self) -> list[FilledBucket]:
        self.log.append("fill")
        slots = [Slot("weight", [1], 0, 2)]
        return [FilledBucket("bfloat16", slots, {f"GPU-{i}": {"size": i}}) for i in range(2)]

    def close_weight_update(self) -> None:
        self.log.append("trainer releases buckets")


class RecordingEngine:
    """Engines that say what is done with them."""

    weight_format = WeightFormat("bfloat16", 100)

    def __init__(self, log: list[str], readers: set[str]) -> None:
        self.log = log
        self.readers = readers

    def restart_lost(self) -> None:
        self.log.append("restart lost")

    def wake_up(self, tag: str) -> None:
        self.log.append(f"wake {tag}")

    def start_weight_update(self) -> set[str]:
        self.log.append("start")
        return self.readers

    def load_weights(self, bucket: dict[str, Any]) -> None:
        assert bucket["sources"] == {"GPU-0": {"size": 0}, "GPU-1": {"size": 1}}
        self.log.append("load")

    def finish_weight_update(self) -> None:
        self.log.append("finish")


def test_memory_is_freed_before_an_engine_takes_any() -> None:
    log: list[str] = []
    engine: Any = RecordingEngine(log, {"GPU-0", "GPU-1"})
    publish_weights(RecordingActor(log), engine)
    order = [entry for entry in log if entry not in ("fill", "load")]
    assert order == [
        *(
            "trainer frees",
            "restart lost",
            "wake weights",
            "start",
            "finish",
            "trainer releases buckets",
        ),
        *("trainer frees", "wake kv_cache"),
    ]
    transfer = log[log.index("start") + 1 : log.index("finish")]
    assert sorted(transfer) == ["fill"] * 3 + ["load"] * 3


@pytest.mark.parametrize(("failing", "fills"), [(1, 2), (2, 3), (3, 3)])
def test_a_buffer_is_filled_again_only_after_its_load(
    failing: int, fills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    engine: Any = RecordingEngine(log, {"GPU-0", "GPU-1"})

    def load(_: dict[str, Any]) -> None:
        log.append("load")
        if log.count("load") == failing:
            raise RolloutEngineError("the engine is gone")

    monkeypatch.setattr(engine, "load_weights", load)
    with pytest.raises(RolloutEngineError, match="gone"):
        publish_weights(RecordingActor(log), engine)
    assert log.count("fill") == fills, "one bucket is gathered ahead, no more"
    assert "finish" not in log


def test_an_engine_on_a_gpu_without_a_trainer_is_refused() -> None:
    engine: Any = RecordingEngine([], {"GPU-0", "GPU-7"})
    with pytest.raises(WeightTransferError, match="GPU-7"):
        publish_weights(RecordingActor([]), engine)
