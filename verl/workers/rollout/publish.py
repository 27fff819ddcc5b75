"""Takes the policy's weights from the trainer's ranks into every engine.

Guarantees: at most two buckets of the model exist besides the trainer's and the engines' own
weights; the trainer's unused GPU memory is with the driver whenever an engine takes memory back;
afterwards the engines are awake and compute with the new weights.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from verl.workers.rollout.replicas import EngineCalls, RolloutReplicas
from verl.workers.weight_transfer.buckets import WeightTransferError, merge_sources


def publish_weights(actor: Any, engine: RolloutReplicas) -> None:
    """Wakes the engines with the present weights of ``actor``, the role handle of an
    :class:`~verl.workers.fsdp.actor.ActorWorker`; those that were lost are started again before.

    Raises:
        WeightTransferError: if an engine reads from a GPU on which no rank trains.
        WorkerGroupError, RolloutEngineError: if a side fails.
    """
    actor.free_unused_memory()
    engine.restart_lost()
    engine.wake_up("weights")
    _transfer(actor, engine)
    actor.free_unused_memory()
    engine.wake_up("kv_cache")


def refresh_weights(actor: Any, engine: EngineCalls) -> None:
    """Gives engines that are awake, while the others generate, the weights that those have; raises
    as :func:`publish_weights`."""
    _transfer(actor, engine)
    actor.free_unused_memory()


def _transfer(actor: Any, engine: EngineCalls) -> None:
    readers = engine.start_weight_update()
    opened = actor.open_weight_update(readers, engine.weight_format)
    missing = readers - {rank.exported for rank in opened}
    if missing:
        raise WeightTransferError(
            f"no trainer rank has its model on {', '.join(sorted(missing))}, from where an engine "
            "wants to read weights; engines must share the trainer's GPUs"
        )
    with ThreadPoolExecutor(1, "weight-loading") as loader:
        loading: Future[None] | None = None
        for _ in range(opened[0].num_buckets):
            bucket = merge_sources(actor.fill_weight_bucket())
            if loading is not None:
                loading.result()
            # The next bucket is gathered meanwhile, into the other buffer.
            loading = loader.submit(engine.load_weights, asdict(bucket))
        if loading is not None:
            loading.result()
    engine.finish_weight_update()
    actor.close_weight_update()
