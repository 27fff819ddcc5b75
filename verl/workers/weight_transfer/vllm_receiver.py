"""Engine side of the weight transfer on CPU: vLLM's weight-transfer API over shared memory.

vLLM imports this module in its worker process (``worker_extension_cls``), which registers the
engine. On CUDA vLLM's own ``ipc`` engine does the same work.

Guarantees: after ``finish_weight_update`` the model computes with the new weights only, the packed
copies that CPU kernels keep included.
"""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import resource_tracker, shared_memory

import torch
from vllm.distributed.weight_transfer import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

BACKEND = "shared_memory"


@dataclass
class SharedMemoryInitInfo(WeightTransferInitInfo):
    """Nothing to agree on beforehand."""


@dataclass
class SharedMemoryUpdateInfo(WeightTransferUpdateInfo):
    """What :class:`verl.workers.weight_transfer.sender.SharedMemorySender` published."""

    segment: str
    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]
    offsets: list[int]


class SharedMemoryEngine(WeightTransferEngine[SharedMemoryInitInfo, SharedMemoryUpdateInfo]):
    """Reads tensors out of a shared-memory segment and loads them as a checkpoint."""

    init_info_cls = SharedMemoryInitInfo
    update_info_cls = SharedMemoryUpdateInfo

    def init_transfer_engine(self, init_info: SharedMemoryInitInfo) -> None:
        """Nothing to set up."""

    def start_weight_update(self) -> None:
        """Makes the packed CPU weights loadable again."""
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        """Loads all tensors; they are copied before the segment is let go."""
        segment = shared_memory.SharedMemory(name=update_info.segment)
        # Attaching registers the segment for removal at our exit; it is the sender's to remove.
        resource_tracker.unregister(segment._name, "shared_memory")  # type: ignore[attr-defined]
        weights = []
        for name, dtype_name, shape, offset in zip(
            update_info.names,
            update_info.dtype_names,
            update_info.shapes,
            update_info.offsets,
            strict=True,
        ):
            dtype: torch.dtype = getattr(torch, dtype_name)
            count = torch.Size(shape).numel()
            view = torch.frombuffer(segment.buf, dtype=dtype, count=count, offset=offset)
            weights.append((name, view.view(shape).clone()))
            del view
        segment.close()
        self.model.load_weights(weights)

    def finish_weight_update(self) -> None:
        """Repacks; with tied embeddings the head's packed copy needs it separately."""
        finalize_layerwise_reload(self.model, self.model_config)
        head = getattr(self.model, "lm_head", None)
        if head is not None and self.model_config.hf_text_config.tie_word_embeddings:
            head.quant_method.process_weights_after_loading(head)

    def shutdown(self) -> None:
        """Nothing is held between updates."""


class WorkerExtension:
    """Named to vLLM so that its worker process imports this module; adds nothing."""


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, SharedMemoryEngine)
