"""An actor update as a rank does it, against a bare PyTorch loop that does the same maths.

    .venv/bin/python -m benchmarks.update_speed

One mini-batch of the quickstart's size, on one rank and on two of one thread each, with lengths
that differ as its trajectories do. The bare loop stands here: transformers' model (on two ranks
under ``DistributedDataParallel``), whole logits, the clipped surrogate, the entropy as a metric,
the norm clipped, one step of AdamW, on a batch that was padded in advance. The rank gets the
columns that the driver sends, pads them, and returns its metrics; its gradient has the bare loop's
norm.
Both take turns in the same processes, so that noise hits both. The goal is the project's own.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from rich.table import Table
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM, Qwen2Config

from verl.algorithms.maths import entropy_from_logits
from verl.config.model import ActorConfig, ModelConfig, OptimConfig
from verl.protocol import DataProto
from verl.single_controller.worker import RankInfo, Worker, free_port
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus, collate
from verl.utils.console import console
from verl.workers.fsdp.actor import ActorWorker

TRAJECTORIES, ROUNDS, CLIP = 64, 9, 0.2
VOCABULARY, HIDDEN, LAYERS = 900, 256, 2


@dataclass(frozen=True)
class MicroBatch:
    """What the bare loop runs at once: (b, s) each, right-padded."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    response_mask: torch.Tensor
    old_log_probs: torch.Tensor
    advantages: torch.Tensor


def trajectories(count: int, generator: torch.Generator) -> list[Trajectory]:
    """Prompt, action, observation, action; 70 to 200 tokens of them."""

    def ids(least: int, most: int) -> tuple[int, ...]:
        length = int(torch.randint(least, most, (1,), generator=generator))
        return tuple(torch.randint(5, VOCABULARY, (length,), generator=generator).tolist())

    made: list[Trajectory] = []
    for number in range(count):
        actions = [ids(16, 48), ids(8, 32)]
        parts = [
            Segment(SegmentKind.PROMPT, ids(40, 80)),
            Segment(SegmentKind.ACTION, actions[0], (-1.0,) * len(actions[0])),
            Segment(SegmentKind.OBSERVATION, ids(8, 40)),
            Segment(SegmentKind.ACTION, actions[1], (-1.0,) * len(actions[1])),
        ]
        made.append(Trajectory(str(number), parts, TrajectoryStatus.ANSWERED))
    return made


def mini_batch(count: int, seed: int) -> DataProto:
    """One rank's columns of an actor update."""
    generator = torch.Generator().manual_seed(seed)
    batch = collate(trajectories(count, generator), pad_token_id=0)
    assert batch.batch is not None
    shape = batch.batch["response_mask"].shape
    batch.batch["advantages"] = torch.randn(shape, generator=generator)
    batch.batch["old_log_probs"] = torch.randn(shape, generator=generator).mul_(0.1).sub_(6.8)
    return batch


def bare_batch(data: DataProto) -> MicroBatch:
    """The same tokens, right-padded."""
    assert data.batch is not None
    columns, length = data.batch, int(data.batch["attention_mask"].sum(1).max())
    start = columns["input_ids"].shape[1] - columns["responses"].shape[1]
    fields: dict[str, torch.Tensor] = {
        "input_ids": columns["input_ids"],
        "attention_mask": columns["attention_mask"],
        "response_mask": columns["response_mask"],
        "old_log_probs": columns["old_log_probs"],
        "advantages": columns["advantages"],
    }
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in fields}
    for row, kept in enumerate(columns["attention_mask"].bool()):
        for name, values in fields.items():
            own = values[row]
            whole = own if len(own) == len(kept) else torch.cat([own.new_zeros(start), own])
            cut = whole[kept]
            rows[name].append(torch.cat([cut, cut.new_zeros(length - len(cut))]))
    return MicroBatch(**{name: torch.stack(values) for name, values in rows.items()})


class BareLoop:
    """The update written out.

    Args:
        path: of the model.
        config: whose learning rate and bound of the norm hold.
    """

    def __init__(self, path: str, config: ActorConfig) -> None:
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        self.model = DistributedDataParallel(model) if dist.get_world_size() > 1 else model
        optim = config.optim
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay, fused=True
        )
        self.bound = optim.grad_clip

    def update(self, batch: MicroBatch) -> tuple[float, float]:
        """One optimizer step; the gradient's norm and the mean entropy."""
        output = self.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        )
        chosen = batch.response_mask[:, 1:].bool()
        logits = output.logits[:, :-1][chosen]
        tokens = batch.input_ids[:, 1:][chosen]
        log_probs = torch.log_softmax(logits, -1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            entropy = entropy_from_logits(logits).sum()
        advantages = batch.advantages[:, 1:][chosen]
        ratio = torch.exp(log_probs - batch.old_log_probs[:, 1:][chosen])
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        count = torch.tensor(float(len(tokens)))
        if dist.get_world_size() > 1:
            dist.all_reduce(count)
        loss = -torch.minimum(ratio * advantages, clipped * advantages).sum()
        (loss * dist.get_world_size() / count).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.bound)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm), float(entropy) / len(tokens)


def timed(update: Callable[[], Any]) -> float:
    """Seconds until the last rank has done it."""
    dist.barrier()
    start = time.perf_counter()
    update()
    dist.barrier()
    return time.perf_counter() - start


def take_turns(rank: int, world_size: int, port: int, path: str, found: Any) -> None:
    """What a rank's process does; rank 0 puts the seconds of each round."""
    info = RankInfo(rank, world_size, rank, "cpu", "127.0.0.1", port)
    Worker.init_process_group(info)
    torch.manual_seed(rank)
    config = ActorConfig(optim=OptimConfig(lr=1e-6, grad_clip=0.2))
    model = ModelConfig(
        path=path, dtype="float32", use_remove_padding=False, enable_gradient_checkpointing=False
    )
    worker = ActorWorker(info, model, config, temperature=1.0, total_steps=2 * ROUNDS)
    bare = BareLoop(path, config)
    data = mini_batch(TRAJECTORIES // world_size, rank)
    batch = bare_batch(data)
    metrics = worker.update_actor(data).meta_info["metrics"]
    norm, _ = bare.update(batch)
    torch.testing.assert_close(metrics["actor/grad_norm"], norm, rtol=1e-3, atol=0.0)
    rounds = [
        (timed(lambda: bare.update(batch)), timed(lambda: worker.update_actor(data)))
        for _ in range(ROUNDS)
    ]
    if rank == 0:
        found.put(rounds)
    dist.barrier()
    dist.destroy_process_group()


def compare(path: str, world_size: int) -> tuple[float, float]:
    """Median seconds of the bare loop and of the rank."""
    found = torch.multiprocessing.get_context("spawn").SimpleQueue()
    torch.multiprocessing.spawn(take_turns, (world_size, free_port(), path, found), world_size)
    rounds = found.get()
    bare, own = (statistics.median(column) for column in zip(*rounds, strict=True))
    return bare, own


def measure() -> dict[str, float]:
    """On one rank and on two; prints a table."""
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=8,
        tie_word_embeddings=False,
        pad_token_id=0,
    )
    table = Table(title=f"An update with {TRAJECTORIES} trajectories", title_justify="left")
    for column in ("ranks", "bare loop", "worker", "its speed"):
        table.add_column(column, justify="right")
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(Path(name))
        for world_size in (1, 2):
            bare, own = compare(name, world_size)
            table.add_row(str(world_size), f"{bare:.3f} s", f"{own:.3f} s", f"{bare / own:.2f}")
            ranks = "one rank" if world_size == 1 else "two ranks"
            figures[f"update's speed on {ranks}, of a bare loop's"] = bare / own
    console.print(table)
    return figures


if __name__ == "__main__":
    measure()
