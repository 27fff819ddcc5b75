"""Epochs and mini-batches of one PPO update, and which rank gets which of their samples.

An optimizer step is a sum over the mini-batch's tokens, so it does not depend on the division; how
long it takes does. Advantages are there before: no algorithm needs the samples of one prompt in one
mini-batch or on one rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from verl.config.model import UpdateConfig
from verl.protocol import DataProto, pad_dataproto_to_divisor
from verl.trajectory import TrajectoryStatus
from verl.utils.balance import balanced_order

# What the workers need; the rest of a batch stays on the driver.
SCORING_COLUMNS = ("input_ids", "attention_mask", "responses", "response_mask")
ACTOR_COLUMNS = (*SCORING_COLUMNS, "old_log_probs", "advantages")
CRITIC_COLUMNS = (*SCORING_COLUMNS, "values", "returns")
# Of the actor, where the configuration asks for them.
OPTIONAL_COLUMNS = ("ref_log_prob", "rollout_weights")


def without_truncated(batch: DataProto) -> DataProto:
    """The trajectories that did not end for want of room (Yu et al. 2025, "DAPO", section 3.4)."""
    status = batch.non_tensor_batch["status"]
    return batch[status != TrajectoryStatus.TRUNCATED.value]


def run_update(
    update: Callable[[DataProto], DataProto],
    batch: DataProto,
    config: UpdateConfig,
    rng: np.random.Generator,
    ranks: int,
) -> dict[str, float]:
    """Calls ``update`` on each mini-batch; the mean of its metrics."""
    size, epochs = config.ppo_mini_batch_size, config.ppo_epochs
    collected: dict[str, list[float]] = {}
    for part in mini_batches(batch, size, epochs, config.shuffle, rng, ranks):
        for name, value in update(part).meta_info["metrics"].items():
            collected.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in collected.items()}


def mini_batches(
    batch: DataProto, size: int, epochs: int, shuffle: bool, rng: np.random.Generator, ranks: int
) -> Iterator[DataProto]:
    """Every sample once per epoch, in as few parts of at most ``size`` as hold them all.

    Parts are as even as can be, in number and, over the ``ranks`` that share one, in tokens. One
    that does not split over them is filled up with samples whose ``response_mask`` is 0 everywhere,
    which count in no loss.
    """
    for _ in range(epochs):
        order = rng.permutation(len(batch)) if shuffle else np.arange(len(batch))
        for rows in np.array_split(order, -(-len(batch) // size)):
            part, added = pad_dataproto_to_divisor(batch[rows], ranks)
            if added:
                part.tensors["response_mask"][-added:] = 0
            yield part[spread_over_ranks(part, ranks)]


def spread_over_ranks(batch: DataProto, ranks: int) -> list[int]:
    """Rows in an order whose consecutive pieces, one a rank, hold about as many tokens each."""
    if ranks == 1:
        return list(range(len(batch)))
    return balanced_order(batch.tensors["attention_mask"].sum(dim=1).tolist(), ranks)


def computed_in_balance(
    compute: Callable[[DataProto], DataProto], batch: DataProto, ranks: int
) -> DataProto:
    """What ``compute`` gives for each of the batch's rows, in their order; ranks get about as many
    tokens each."""
    order = spread_over_ranks(batch, ranks)
    return compute(batch[order])[np.argsort(order)]
