"""Chosen steps are traced, and a trace that cannot be written ends nothing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from verl.config.ppo import TrainerConfig
from verl.config.profiler import ProfilerConfig
from verl.config.validation import ConfigError
from verl.workers.fsdp.trained_worker import RankProfiler


def test_a_trace_holds_what_ran_between_start_and_stop(tmp_path: Path) -> None:
    profiler = RankProfiler()
    path = tmp_path / "profile" / "step_2_rank_0.json.gz"
    profiler.stop(path)
    assert not path.exists(), "nothing was started"
    profiler.start()
    torch.ones(4, 4) @ torch.ones(4, 4)
    profiler.stop(path)
    trace = json.loads(gzip.decompress(path.read_bytes()))
    assert any(event.get("name") == "aten::mm" for event in trace["traceEvents"])
    profiler.start()
    profiler.stop(path / "below a file.json.gz")
    profiler.start()  # goes on all the same
    profiler.stop(path)


@pytest.mark.parametrize(
    ("steps", "ranks", "message"),
    [
        ([0], [0], "steps must be > 0, got 0"),
        ([1], [-1], "ranks must be >= 0, got -1"),
        ([1], [], "must name a rank"),
        ([1], [2], "ranks=2 is none of the 2 ranks"),
    ],
)
def test_a_step_or_rank_that_there_is_not_is_refused(
    steps: list[int], ranks: list[int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainerConfig(n_gpus_per_node=2, profiler=ProfilerConfig(steps, ranks))
