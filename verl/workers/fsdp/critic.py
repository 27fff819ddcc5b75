"""The critic's worker: values and their update."""

from __future__ import annotations

from verl.algorithms.losses import value_loss_per_token
from verl.config.model import CriticConfig
from verl.protocol import DataProto
from verl.single_controller.dispatch import Dispatch, register
from verl.single_controller.worker import RankInfo
from verl.workers.fsdp.engine import FSDPEngine
from verl.workers.fsdp.micro_batching import (
    compute_per_token,
    global_counts,
    iterate_micro_batches,
    metrics_of,
    sum_over_ranks,
)
from verl.workers.fsdp.trained_worker import TrainedWorker


class CriticWorker(TrainedWorker):
    """Holds the value model; ``total_steps``: optimizer steps of the run."""

    def __init__(self, info: RankInfo, config: CriticConfig, total_steps: int) -> None:
        super().__init__(info)
        self._config = config
        self._engine = FSDPEngine(
            config.model, config.fsdp_config, self.device, "value", config.optim, total_steps
        )

    @register(Dispatch.DP_COMPUTE, pad=True)
    def compute_values(self, data: DataProto) -> DataProto:
        """``values`` (B, R) float32: of the state before each response token."""
        return compute_per_token(
            data, self._engine, self._config, lambda batch: {"values": self._engine.model(batch)}
        )

    @register(Dispatch.DP_COMPUTE)
    def update_critic(self, mini_batch: DataProto) -> DataProto:
        """One optimizer step on one mini-batch; needs values, returns and response_mask.

        The loss is a mean over the sampled tokens of all ranks and micro-batches. Returns metrics
        in ``meta_info["metrics"]``.
        """
        tensors = mini_batch.tensors
        count = max(1.0, global_counts(mini_batch, self.device).tokens)
        sums = {"vf_loss": 0.0, "vf_clipfrac": 0.0}
        for batch in iterate_micro_batches(mini_batch, self._engine, self._config):
            returns, values, mask = (
                tensors[name][batch.sample, batch.offset].to(self.device)
                for name in ("returns", "values", "response_mask")
            )
            loss, clipped = value_loss_per_token(
                self._engine.model(batch), returns, values, self._config.cliprange_value
            )
            mask = mask.float()
            total = (loss * mask).sum()
            (total * self.world_size / count).backward()
            sums["vf_loss"] += float(total.detach())
            sums["vf_clipfrac"] += float((clipped * mask).sum())
        step = self._engine.optimizer_step()
        means = {n: v / count for n, v in sum_over_ranks(sums, self.device).items()}
        return metrics_of("critic", means | step)
