"""The worker of supervised fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from hydra.utils import get_class
from transformers import AutoModelForCausalLM, AutoTokenizer

from verl.config.sft import ComponentConfig, SFTConfig
from verl.single_controller.dispatch import Dispatch, register
from verl.single_controller.worker import RankInfo, Worker
from verl.trainer.sft.gate import GateReport
from verl.utils.sequence_packing import ModelInput, TokenSequence, lay_out
from verl.workers.fsdp.engine import FSDPEngine

Example = dict[str, list[int]]


class ExampleSource(Protocol):
    """Gives every step's examples, as a pure function of the step."""

    def sample_batch(self, step: int, batch_size: int) -> list[Example]:
        """``input_ids`` and a ``loss_mask`` of equal length for each example."""
        ...


class SFTWorker(Worker):
    """Holds the model that is fine-tuned.

    Args:
        info: place of this process.
        config: of the run.
    """

    def __init__(self, info: RankInfo, config: SFTConfig) -> None:
        super().__init__(info)
        self._config = config
        self._engine = FSDPEngine(
            config.model,
            config.fsdp_config,
            self.device,
            "lm",
            config.optim,
            config.trainer.steps,
        )
        self._examples: ExampleSource = build_component(config.data)
        self._gate = build_component(config.gate) if config.gate and self.rank == 0 else None

    @register(Dispatch.ONE_TO_ALL)
    def train_steps(self, first: int, count: int) -> list[float]:
        """Runs steps ``first`` to ``first + count - 1``; the loss of each, over all ranks."""
        return [self._train_step(step) for step in range(first, first + count)]

    def _train_step(self, step: int) -> float:
        examples = self._examples.sample_batch(step, self._config.trainer.batch_size)
        total = sum(sum(example["loss_mask"][1:]) for example in examples)
        own = examples[self.rank :: self.world_size]
        batch = _model_input(own, self._engine.packed, self.device)
        loss = -self._engine.model(batch).log_probs.sum()
        (loss * self.world_size / total).backward()
        self._engine.optimizer_step()
        mean = loss.detach().double() / total
        dist.all_reduce(mean)
        return float(mean)

    @register(Dispatch.ONE_TO_ALL)
    def ask_gate(self) -> GateReport | None:
        """What the gate says of the present model; None on ranks other than 0."""
        # Every rank gathers, the one that asks keeps.
        state = {
            name: value.cpu()
            for name, value in self._engine.full_parameters()
            if self._gate is not None
        }
        if self._gate is None:
            return None
        # The gate samples padded prompts, whatever attention the training has.
        model = AutoModelForCausalLM.from_config(
            self._engine.model.pretrained.config, attn_implementation="sdpa"
        )
        model.load_state_dict(state, strict=False)  # tied weights are listed once
        model.eval()
        report: GateReport = self._gate(
            model, AutoTokenizer.from_pretrained(self._config.model.path)
        )
        return report

    @register(Dispatch.ONE_TO_ALL)
    def save(self, folder: str) -> None:
        """Writes the model in Hugging Face format."""
        self._engine.save(Path(folder))


def build_component(config: ComponentConfig) -> Any:
    """An instance of the class that a config names."""
    return get_class(config.target)(**config.args)


def _model_input(examples: list[Example], packed: bool, device: torch.device) -> ModelInput:
    """The loss is on the tokens that ``loss_mask`` marks; the first token has no prediction."""
    sequences = []
    for sample, example in enumerate(examples):
        targets = torch.tensor(example["loss_mask"])[1:].nonzero().squeeze(-1) + 1
        ids = torch.tensor(example["input_ids"])
        sequences.append(TokenSequence(ids, targets, sample, torch.arange(len(targets))))
    return lay_out(sequences, packed, device)
