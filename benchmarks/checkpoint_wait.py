"""How long training waits for a checkpoint: written in the background, against written at once.

    .venv/bin/python benchmarks/checkpoint_wait.py

One FSDP2 rank on the CPU, a random Qwen2 of 100 million parameters with Adam's moments: 1.2 GB of
training state and, as trainer.save_hf=always has it, a Hugging Face checkpoint of 0.4 GB. Training
waits for the copy to host memory alone. A synchronous save would make no copy; it would wait for
all that is written. The first save also waits for the memory of the copy, which is kept.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from transformers import AutoModelForCausalLM, Qwen2Config

from verl.config.model import FSDPConfig, ModelConfig, OptimConfig
from verl.single_controller.worker import RankInfo, Worker
from verl.utils.console import console
from verl.workers.fsdp.engine import FSDPEngine

ROUNDS = 5
GOAL = 0.10


@dataclass(frozen=True)
class Save:
    """Seconds of one: that training waited, and that writing took after that."""

    waited: float
    written: float


def engine(folder: Path) -> FSDPEngine:
    """The model on one rank, with an optimizer that has stepped."""
    config = Qwen2Config(
        vocab_size=32_000,
        hidden_size=768,
        intermediate_size=2304,
        num_hidden_layers=10,
        num_attention_heads=12,
        num_key_value_heads=12,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    Worker.init_process_group(RankInfo(0, 1, 0, "cpu", "127.0.0.1", 0, torch.get_num_threads()))
    model = ModelConfig(path=str(folder), dtype="float32", use_remove_padding=False)
    built = FSDPEngine(model, FSDPConfig(), torch.device("cpu"), "lm", OptimConfig())
    for parameter in built.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    built.optimizer_step()
    return built


def save(trained: FSDPEngine, folder: Path) -> Save:
    """One save, with nothing beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    trained.begin_save(folder / "state", folder / "actor")
    waited = time.perf_counter() - start
    if (error := trained.state_writer.finish()) is not None:
        raise OSError(error)
    return Save(waited, time.perf_counter() - start - waited)


def measure() -> dict[str, float]:
    """Saves some times; prints each and the medians."""
    with tempfile.TemporaryDirectory() as name:
        trained = engine(Path(name, "model"))
        parameters = sum(parameter.numel() for parameter in trained.model.parameters())
        saves = [save(trained, Path(name, "checkpoint")) for _ in range(ROUNDS)]
    table = Table(title=f"{parameters / 1e6:.0f} million parameters", title_justify="left")
    for column in ("save", "training waits, s", "synchronous, s", "ratio"):
        table.add_column(column, justify="left" if column == "save" else "right")
    for number, one in enumerate(saves, start=1):
        ratio = one.waited / one.written
        table.add_row(str(number), f"{one.waited:.2f}", f"{one.written:.2f}", f"{ratio:.3f}")
    later = saves[1:]
    waited = statistics.median(one.waited for one in later)
    written = statistics.median(one.written for one in later)
    label = f"median of 2 to {ROUNDS} (goal {GOAL})"
    table.add_row(label, f"{waited:.2f}", f"{written:.2f}", f"{waited / written:.3f}")
    console.print(table)
    return {"training waits, of a synchronous save": waited / written}


if __name__ == "__main__":
    measure()
