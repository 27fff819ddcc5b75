"""How fast a batch moves between driver and workers, against a copy of the same bytes in memory.

    .venv/bin/python -m benchmarks.data_transfer [--gigabytes 1.0]

A DataProto of a training step's columns goes from the driver to two workers, half to each, and
comes back whole, by the calls with which the trainer does so: cut, pickled into Ray's object store,
read, joined. The copy goes into memory that is in use already. Each is done a few times in turn;
the first transfer, for which the object store gets its memory from the kernel, is shown by itself.
The goal, half of a memcpy, is the project's own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

import torch
from rich.table import Table

from verl.config.ppo import RayConfig
from verl.protocol import DataProto
from verl.single_controller.dispatch import Dispatch, register
from verl.single_controller.resource_pool import RayResourcePool
from verl.single_controller.worker import Worker
from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup
from verl.trainer.cluster import ray_cluster
from verl.utils.console import console

ROUNDS, WORKERS, TOKENS = 4, 2, 1024
INTEGERS = ("input_ids", "attention_mask", "position_ids", "responses", "response_mask")
FLOATS = ("old_log_probs", "ref_log_prob", "values", "advantages", "returns")
Figures = dict[str, float]


class Keeper(Worker):
    """Takes a batch, keeps it, gives it back."""

    @register(Dispatch.DP_COMPUTE)
    def take(self, batch: DataProto) -> DataProto:
        """Passes over the bytes, so that they are there; only the sum goes back."""
        self._kept = batch
        assert batch.batch is not None
        total = sum(
            int(tensor.view(torch.uint8)[:, ::4096].sum()) for tensor in batch.batch.values()
        )
        return DataProto(meta_info={"sum": total})

    @register(Dispatch.ONE_TO_ALL)
    def give(self) -> DataProto:
        """What was taken last."""
        return self._kept


@dataclass(frozen=True)
class Round:
    """Seconds of each way, and of the copy."""

    copy: float
    out: float
    back: float


def batch_of(gigabytes: float) -> DataProto:
    """Columns as a step has them."""
    width = TOKENS * (8 * len(INTEGERS) + 4 * len(FLOATS))
    rows = max(WORKERS, int(gigabytes * 1e9) // width // WORKERS * WORKERS)
    tensors = {name: torch.randint(1000, (rows, TOKENS)) for name in INTEGERS}
    tensors |= {name: torch.randn(rows, TOKENS) for name in FLOATS}
    return DataProto.from_dict(tensors)


def one_round(batch: DataProto, group: RayWorkerGroup, target: DataProto) -> Round:
    """A copy, out, back."""
    assert batch.batch is not None
    assert target.batch is not None
    start = time.perf_counter()
    for name, tensor in batch.batch.items():
        target.batch[name].copy_(tensor)
    copied = time.perf_counter()
    group["keeper"].take(batch)
    taken = time.perf_counter()
    back = DataProto.concat(group["keeper"].give())
    ended = time.perf_counter()
    assert back.batch is not None
    assert torch.equal(back.batch["input_ids"], batch.batch["input_ids"])
    return Round(copied - start, taken - copied, ended - taken)


def measure(gigabytes: float = 1.0) -> Figures:
    """Moves a batch some times; prints a table."""
    torch.set_num_threads(1)
    batch = batch_of(gigabytes)
    assert batch.batch is not None
    size = sum(tensor.nbytes for tensor in batch.batch.values())
    target = DataProto.from_dict({name: tensor.clone() for name, tensor in batch.batch.items()})
    with ray_cluster(RayConfig(num_cpus=WORKERS), num_ranks=WORKERS):
        pool = RayResourcePool([WORKERS])
        group = RayWorkerGroup(pool, {"keeper": RayClassWithInit(Keeper)})
        first, *rounds = [one_round(batch, group, target) for _ in range(ROUNDS)]
        group.shutdown()
    copy = statistics.median(one.copy for one in rounds)
    out = statistics.median(one.out for one in rounds)
    back = statistics.median(one.back for one in rounds)
    title = f"{size / 1e9:.2f} GB between driver and {WORKERS} workers"
    table = Table(title=title, title_justify="left")
    for column in ("", "GB/s", "of a memcpy", "first time, s"):
        table.add_column(column, justify="right" if column else "left")
    for name, seconds, at_first in (
        ("memcpy", copy, first.copy),
        ("driver to workers", out, first.out),
        ("workers to driver", back, first.back),
    ):
        rate, share = f"{size / seconds / 1e9:.2f}", f"{copy / seconds:.2f}"
        table.add_row(name, rate, share, f"{at_first:.2f}")
    console.print(table)
    return {
        "driver to workers, of a memcpy": copy / out,
        "workers to driver, of a memcpy": copy / back,
        "both ways, of two memcpys": 2 * copy / (out + back),
    }


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description="a batch between driver and workers")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    measure(parser.parse_args().gigabytes)


if __name__ == "__main__":
    main()
