"""Memory and time of an actor update whose logits come in chunks, against whole logits.

    .venv/bin/python benchmarks/update_memory.py

The plain form stands here: the output layer on every position, then log-probs and entropy of the
response tokens from logits that exist as a whole. Two shapes, on CPU: a vocabulary of 150k, where
the head dominates, each form in a process of its own; and one rank's share of a quickstart step.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from transformers import AutoModelForCausalLM, Qwen2Config

from verl.algorithms.maths import entropy_from_logits
from verl.algorithms.policy_losses.clip import clipped_surrogate
from verl.config.model import ModelConfig
from verl.utils.console import console
from verl.utils.sequence_packing import ModelInput, TokenSequence, lay_out
from verl.workers.fsdp.modelling import build_model


@dataclass(frozen=True)
class Shape:
    """A model and a micro-batch of equal trajectories."""

    vocabulary: int
    hidden: int
    trajectories: int
    length: int
    response: int
    chunk_tokens: int
    repeats: int


LARGE_VOCABULARY = Shape(151_936, 128, 8, 256, 192, 256, 3)
QUICKSTART = Shape(900, 256, 32, 400, 250, 2048, 5)
Statistics = tuple[torch.Tensor, torch.Tensor]
Form = Callable[[Any, ModelInput], Statistics]


def plain(model: Any, batch: ModelInput) -> Statistics:
    """Log-probs and entropies of the targets, from whole logits."""
    logits = model.pretrained(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).logits[batch.rows, batch.columns]
    logits = logits.float() / 1.0
    chosen = logits.gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)
    return chosen - torch.logsumexp(logits, dim=-1), entropy_from_logits(logits)


def chunked(model: Any, batch: ModelInput) -> Statistics:
    """The same as a worker computes it."""
    log_probs, entropy = model(batch, with_entropy=True)
    return log_probs, entropy


FORMS: dict[str, Form] = {"plain": plain, "chunked": chunked}


@dataclass
class Trial:
    """One model, its optimizer and a micro-batch."""

    model: Any
    optimizer: torch.optim.Optimizer
    batch: ModelInput

    def update(self, form: Form) -> float:
        """Seconds of a forward and backward pass and an optimizer step; no entropy in the loss."""
        start = time.monotonic()
        log_probs, entropy = form(self.model, self.batch)
        advantages = torch.linspace(-1, 1, len(log_probs))
        loss, _, _ = clipped_surrogate(log_probs.detach(), log_probs, advantages, 0.2, 0.2)
        # The plain form's entropy has a gradient, if of 0, as it had before.
        (loss.sum() - (0.0 * entropy.sum() if form is plain else 0.0)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.monotonic() - start

    def score(self, form: Form) -> float:
        """Seconds of a pass without gradients."""
        start = time.monotonic()
        with torch.no_grad():
            form(self.model, self.batch)
        return time.monotonic() - start


def prepare(shape: Shape) -> Trial:
    """A random model of two layers, and random trajectories."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=2 * shape.hidden,
        num_hidden_layers=2,
        num_attention_heads=shape.hidden // 32,
        num_key_value_heads=shape.hidden // 32,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    with tempfile.TemporaryDirectory() as name:
        AutoModelForCausalLM.from_config(config).save_pretrained(Path(name))
        model_config = ModelConfig(
            path=name,
            dtype="float32",
            use_remove_padding=False,
            enable_gradient_checkpointing=False,
            logits_chunk_tokens=shape.chunk_tokens,
        )
        model = build_model(model_config, "lm", torch.device("cpu"), trained=True)
    targets = torch.arange(shape.length - shape.response, shape.length)
    sequences = [
        TokenSequence(
            torch.randint(shape.vocabulary, (shape.length,)),
            targets,
            sample,
            torch.arange(shape.response),
        )
        for sample in range(shape.trajectories)
    ]
    batch = lay_out(sequences, False, torch.device("cpu"))
    return Trial(model, torch.optim.AdamW(model.parameters(), lr=1e-6), batch)


def update_in_a_process_of_its_own(name: str, shape: Shape, threads: int) -> tuple[float, float]:
    """Peak gigabytes that updates added to the loaded model, and the median seconds of one."""
    torch.set_num_threads(threads)
    trial = prepare(shape)
    before = _resident_bytes()
    seconds = [trial.update(FORMS[name]) for _ in range(shape.repeats)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (peak - before) / 1e9, statistics.median(seconds)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def compare_memory(shape: Shape) -> dict[str, float]:
    """Prints peak memory and speed of both forms at a large vocabulary; chunked over plain."""
    found = {}
    for name in FORMS:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as pool:
            job = pool.submit(update_in_a_process_of_its_own, name, shape, torch.get_num_threads())
            found[name] = job.result()
    table = Table(title=f"Update at a vocabulary of {shape.vocabulary:,}", title_justify="left")
    for column in ("form", "peak GB", "seconds"):
        table.add_column(column, justify="left" if column == "form" else "right")
    for name, (gigabytes, seconds) in found.items():
        table.add_row(name, f"{gigabytes:.2f}", f"{seconds:.2f}")
    (plain_memory, plain_seconds), (memory, seconds) = found["plain"], found["chunked"]
    table.add_row(
        "chunked / plain", f"{memory / plain_memory:.2f}", f"speed {plain_seconds / seconds:.2f}"
    )
    console.print(table)
    return {
        "update's memory, chunked over plain": memory / plain_memory,
        "update's speed, chunked over plain": plain_seconds / seconds,
    }


def compare_quickstart(shape: Shape) -> dict[str, float]:
    """Prints seconds of scoring and updating; the forms take turns, so that noise hits both. The
    speed of chunked over plain."""
    figures = {}
    trial = prepare(shape)
    table = Table(title="One rank's share of a quickstart mini-batch", title_justify="left")
    for column in ("", *FORMS, "chunked / plain"):
        table.add_column(column, justify="right" if column else "left")
    for name, step in (("scoring", trial.score), ("update", trial.update)):
        rounds = [[step(form) for form in FORMS.values()] for _ in range(shape.repeats)]
        medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
        ratio = medians[1] / medians[0]
        table.add_row(name, *(f"{value:.3f} s" for value in medians), f"{ratio:.2f}")
        figures[f"quickstart {name}'s speed, chunked over plain"] = 1 / ratio
    console.print(table)
    return figures


def measure() -> dict[str, float]:
    """Both shapes; the second with one thread, as a rank has it."""
    figures = compare_memory(LARGE_VOCABULARY)
    torch.set_num_threads(1)
    return figures | compare_quickstart(QUICKSTART)


if __name__ == "__main__":
    measure()
