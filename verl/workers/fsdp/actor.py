"""The policy's worker: log-probs, updates, weights to the engine."""

from __future__ import annotations

import torch

from verl.algorithms.actor_loss import AGGREGATED, TERMS, ActorTokens, actor_terms, weighted_loss
from verl.algorithms.aggregation import aggregation
from verl.algorithms.policy_losses import find_policy_loss
from verl.algorithms.policy_losses.base import PolicyTokens
from verl.config.model import ActorConfig, ModelConfig, ReferenceConfig
from verl.protocol import DataProto
from verl.single_controller.dispatch import Dispatch, register
from verl.single_controller.worker import RankInfo, Worker
from verl.utils.device import free_unused_memory
from verl.utils.sequence_packing import ModelInput
from verl.workers.fsdp.engine import FSDPEngine
from verl.workers.fsdp.lora import without_adapters
from verl.workers.fsdp.micro_batching import (
    compute_per_token,
    global_counts,
    iterate_micro_batches,
    metrics_of,
    sum_over_ranks,
)
from verl.workers.fsdp.trained_worker import TrainedWorker
from verl.workers.weight_transfer.buckets import (
    FilledBucket,
    OpenedUpdate,
    WeightFormat,
    plan_buckets,
)
from verl.workers.weight_transfer.buffers import memory_id
from verl.workers.weight_transfer.sender import BucketSender, BufferPair


class ActorWorker(TrainedWorker):
    """Holds the policy that is trained.

    Args:
        temperature: at which the policy samples; logits are divided by it everywhere.
        total_steps: optimizer steps of the run.
    """

    def __init__(
        self,
        info: RankInfo,
        model: ModelConfig,
        config: ActorConfig,
        temperature: float,
        total_steps: int,
    ) -> None:
        super().__init__(info)
        self._config = config
        self._policy_loss = find_policy_loss(config.policy_loss)
        self._temperature = temperature
        self._engine = FSDPEngine(
            model, config.fsdp_config, self.device, "lm", config.optim, total_steps
        )
        self._buffers = BufferPair(self.device)
        self._sender: BucketSender | None = None

    @register(Dispatch.DP_COMPUTE, pad=True)
    def compute_log_probs(self, data: DataProto) -> DataProto:
        """``old_log_probs`` and ``entropys`` of the response tokens, (B, R) float32."""

        def function(batch: ModelInput) -> dict[str, torch.Tensor]:
            log_probs, entropy = self._engine.model(batch, self._temperature, with_entropy=True)
            return {"old_log_probs": log_probs, "entropys": entropy}

        return compute_per_token(data, self._engine, self._config, function)

    @register(Dispatch.DP_COMPUTE, pad=True)
    def compute_ref_log_probs(self, data: DataProto) -> DataProto:
        """As the reference's, which is the policy without its adapters; a ValueError if it has
        none."""
        with without_adapters(self._engine.model):
            return _reference_log_probs(data, self._engine, self._config, self._temperature)

    @register(Dispatch.DP_COMPUTE)
    def update_actor(self, mini_batch: DataProto) -> DataProto:
        """One optimizer step on one mini-batch; needs advantages, old_log_probs, response_mask;
        ref_log_prob with a KL in the loss; rollout_weights where engine and trainer are corrected.

        The loss is a sum over sampled tokens of all ranks and micro-batches, divided as
        ``actor.loss_agg_mode`` says. Returns metrics in ``meta_info["metrics"]``.
        """
        counts = global_counts(mini_batch, self.device)
        mask = mini_batch.tensors["response_mask"].float()
        weights, total = aggregation(mask, counts, self._config)
        names = TERMS if self._config.has_kl_loss else TERMS[:-1]
        sums = dict.fromkeys(names, 0.0)
        for batch in iterate_micro_batches(mini_batch, self._engine, self._config):
            tokens = self._tokens(mini_batch, weights, batch)
            terms = actor_terms(tokens, self._config, self._policy_loss)
            loss = weighted_loss(terms, self._config)
            # FSDP averages gradients over ranks, the loss is a sum over them.
            (loss * self.world_size / total).backward()
            for name, value in terms.items():
                sums[name] += float(value.detach())
        step = self._engine.optimizer_step()
        metrics = {
            name: value / (total if name in AGGREGATED else max(1.0, counts.tokens))
            for name, value in sum_over_ranks(sums, self.device).items()
        }
        return metrics_of("actor", metrics | step)

    def _tokens(self, data: DataProto, weights: torch.Tensor, batch: ModelInput) -> ActorTokens:
        """The micro-batch's, with the policy's present log-probs and entropies."""
        tensors: dict[str, torch.Tensor] = dict(data.tensors.items(), weights=weights)

        def column(name: str) -> torch.Tensor:
            return tensors[name][batch.sample, batch.offset].to(self.device)

        log_prob, entropy = self._engine.model(batch, self._temperature, with_entropy=True)
        policy = PolicyTokens(
            column("old_log_probs"),
            log_prob,
            column("advantages"),
            column("response_mask").float(),
            batch.sample.to(self.device),
        )
        return ActorTokens(
            policy,
            entropy,
            column("weights"),
            ref_log_prob=column("ref_log_prob") if self._config.has_kl_loss else None,
            rollout_weights=column("rollout_weights") if "rollout_weights" in tensors else None,
        )

    @register(Dispatch.ONE_TO_ALL)
    def free_unused_memory(self) -> None:
        """Gives unused GPU memory back to the driver, for the engine that shares the GPU."""
        free_unused_memory(self.device)

    @register(Dispatch.ONE_TO_ALL)
    def open_weight_update(self, readers: set[str], weight_format: WeightFormat) -> OpenedUpdate:
        """Prepares to lay the weights out for the engines that read from the memories ``readers``.

        On the CPU all ranks of a node share one memory, and rank 0 writes it.
        """
        dtype: torch.dtype = getattr(torch, weight_format.dtype)
        plan = plan_buckets(self._engine.parameter_shapes(), dtype, weight_format.max_bucket_bytes)
        memory = memory_id(self.device)
        exports = memory in readers and (self.device.type == "cuda" or self.rank == 0)
        self._sender = BucketSender(
            plan, self._engine.full_parameters(dtype), self._buffers if exports else None
        )
        return OpenedUpdate(len(plan.buckets), memory if exports else None)

    @register(Dispatch.ONE_TO_ALL)
    def fill_weight_bucket(self) -> FilledBucket:
        """See :meth:`BucketSender.fill`."""
        assert self._sender is not None
        return self._sender.fill()

    @register(Dispatch.ONE_TO_ALL)
    def close_weight_update(self) -> None:
        """Every engine has finished its update."""
        self._sender = None
        self._buffers.release()


class ReferenceWorker(Worker):
    """Holds the frozen policy that the KL is taken against; arguments as :class:`ActorWorker`."""

    def __init__(
        self,
        info: RankInfo,
        model: ModelConfig,
        config: ActorConfig,
        ref: ReferenceConfig,
        temperature: float,
    ) -> None:
        super().__init__(info)
        self._config = config
        self._temperature = temperature
        self._engine = FSDPEngine(model, ref.fsdp_config, self.device)

    @register(Dispatch.DP_COMPUTE, pad=True)
    def compute_ref_log_probs(self, data: DataProto) -> DataProto:
        """``ref_log_prob`` of the response tokens, (B, R) float32."""
        return _reference_log_probs(data, self._engine, self._config, self._temperature)


def _reference_log_probs(
    data: DataProto, engine: FSDPEngine, config: ActorConfig, temperature: float
) -> DataProto:
    return compute_per_token(
        data,
        engine,
        config,
        lambda batch: {"ref_log_prob": engine.model(batch, temperature).log_probs},
    )
