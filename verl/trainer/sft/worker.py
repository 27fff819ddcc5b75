"""The worker of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from hydra.utils import get_class
from transformers import AutoModelForCausalLM, AutoTokenizer

from verl.config.sft import SFTConfig
from verl.single_controller.dispatch import Dispatch, register
from verl.single_controller.worker import RankInfo
from verl.trainer.sft.examples import Example, training_examples, validation_examples
from verl.trainer.sft.gate import Gate, GateReport
from verl.utils.balance import balanced_order
from verl.utils.sequence_packing import (
    ModelInput,
    TokenSequence,
    equalise_over_ranks,
    lay_out,
    micro_batches_by_tokens,
)
from verl.workers.fsdp.engine import FSDPEngine
from verl.workers.fsdp.trained_worker import TrainedWorker


class SFTWorker(TrainedWorker):
    """Holds the model that is fine-tuned; the steps of ``config`` are settled."""

    def __init__(self, info: RankInfo, config: SFTConfig) -> None:
        super().__init__(info)
        self._config = config
        self._engine = FSDPEngine(
            config.model, config.fsdp_config, self.device, "lm", config.optim, config.total_steps
        )
        self._examples = training_examples(config)
        self._validation = validation_examples(config)
        self._gate: Gate | None = None
        if config.gate is not None and self.rank == 0:
            self._gate = get_class(config.gate.target)(**config.gate.args)

    @register(Dispatch.ONE_TO_ALL)
    def train_steps(self, first: int, count: int) -> list[dict[str, float]]:
        """Runs steps ``first`` to ``first + count - 1``; the metrics of each, over all ranks."""
        return [self._train_step(step) for step in range(first, first + count)]

    def _train_step(self, step: int) -> dict[str, float]:
        examples = self._examples.sample_batch(step, self._config.trainer.batch_size)
        metrics = {"loss": self._mean_loss(examples, backward=True)} | self._engine.optimizer_step()
        return {f"train/{name}": value for name, value in metrics.items()}

    @register(Dispatch.ONE_TO_ALL)
    def validation_loss(self) -> float:
        """Mean over the learned tokens of ``data.val_files``."""
        with torch.no_grad():
            return self._mean_loss(self._validation, backward=False)

    def _mean_loss(self, examples: Sequence[Example], backward: bool) -> float:
        """Over the learned tokens of the examples, each rank computing a part of it."""
        # The first token of an example has no prediction.
        total = sum(sum(example["loss_mask"][1:]) for example in examples)
        lengths = [len(example["input_ids"]) for example in examples]
        order = balanced_order(lengths, self.world_size)
        size = -(-len(order) // self.world_size)
        own = order[self.rank * size : (self.rank + 1) * size]
        packed, device = self._engine.packed, self.device
        mean = torch.zeros((), dtype=torch.float64, device=device)
        own_lengths = [lengths[i] for i in own]
        limit = self._config.trainer.max_token_len_per_gpu
        groups = micro_batches_by_tokens(own_lengths, limit, padded=not packed)
        for group in equalise_over_ranks(groups, own_lengths, device):
            batch = _model_input(examples, [own[i] for i in group], packed, device)
            part = -self._engine.model(batch).log_probs.sum() / total
            if backward:
                (part * self.world_size).backward()
            mean += part.detach().double()
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
        return self._gate(model, AutoTokenizer.from_pretrained(self._config.model.path))


def _model_input(
    examples: Sequence[Example], indices: Sequence[int], packed: bool, device: torch.device
) -> ModelInput:
    """The loss is on the tokens that ``loss_mask`` marks; no index runs the first example and takes
    nothing from it."""
    sequences = []
    for sample in indices or [0]:
        mask = torch.tensor(examples[sample]["loss_mask"])
        targets = mask[1:].nonzero().squeeze(-1) + 1 if indices else torch.empty(0).long()
        ids = torch.tensor(examples[sample]["input_ids"])
        sequences.append(TokenSequence(ids, targets, sample, torch.arange(len(targets))))
    return lay_out(sequences, packed, device)
