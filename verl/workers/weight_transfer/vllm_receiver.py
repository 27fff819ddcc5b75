"""Engine side of the weight transfer: vLLM's weight-transfer API over buckets in shared memory.

vLLM imports this module in its worker processes (``worker_extension_cls``), which registers the
engine.

Guarantees: after ``finish_weight_update`` the model computes with the new weights only, the packed
copies that CPU kernels keep included, and no GPU memory of the trainer's is held; when
``update_weights`` returns, its bucket may be overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

from verl.workers.weight_transfer.buckets import BACKEND, Slot
from verl.workers.weight_transfer.buffers import Handle, attach_buffer, memory_id


@dataclass
class BucketUpdateInfo(WeightTransferUpdateInfo):
    """The plain values of :class:`verl.workers.weight_transfer.buckets.FilledBucket`."""

    dtype: str
    slots: list[dict[str, Any]]
    sources: dict[str, Handle]


class BucketTransferEngine(WeightTransferEngine[WeightTransferInitInfo, BucketUpdateInfo]):
    """Reads tensors where the trainer laid them out and loads them as a checkpoint."""

    init_info_cls = WeightTransferInitInfo
    update_info_cls = BucketUpdateInfo

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Both buffers that the trainer fills in turn; on a GPU for the time of an update.
        self._attached: dict[tuple[Any, ...], torch.Tensor] = {}

    def init_transfer_engine(self, init_info: WeightTransferInitInfo) -> None:
        """Nothing to set up, and never called."""

    def start_weight_update(self) -> None:
        """Makes weights loadable again that vLLM repacked after loading."""
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: BucketUpdateInfo) -> None:
        """Loads one bucket."""
        memory = self._attach(update_info.sources[memory_id(self.device)])
        self.model.load_weights(tensors_in(memory, update_info))
        _copy_what_waits(self.model, memory)

    def _attach(self, handle: Handle) -> torch.Tensor:
        key = tuple(handle.values())
        if key not in self._attached:
            if len(self._attached) == 2:
                del self._attached[next(iter(self._attached))]  # the trainer has replaced it
            self._attached[key] = attach_buffer(handle, self.device)
        return self._attached[key]

    def finish_weight_update(self) -> None:
        """Repacks what is left, and gives back what loading took."""
        head = self._tied_head()
        for layer in self.model.modules():
            if layer is head or next(layer.parameters(recurse=False), None) is None:
                _expect_nothing_for(layer)
        finalize_layerwise_reload(self.model, self.model_config)
        if head is not None and self.device.type == "cpu":
            # It computes with a packed copy of the embedding, made when it was last processed.
            head.quant_method.process_weights_after_loading(head)
        if self.device.type == "cuda":
            self._attached.clear()
            torch.cuda.empty_cache()

    def _tied_head(self) -> Any:
        """The output layer, if it computes with the embedding; else None."""
        tied: bool = self.model_config.hf_text_config.tie_word_embeddings
        return getattr(self.model, "lm_head", None) if tied else None

    def shutdown(self) -> None:
        """Lets the trainer's memory go."""
        self._attached.clear()


class WorkerExtension:
    """What vLLM's worker gets from us, besides the import of this module."""

    device: torch.device

    def weight_memory_id(self) -> str:
        """Names the memory this worker reads buckets from."""
        return memory_id(self.device)


def tensors_in(memory: torch.Tensor, info: BucketUpdateInfo) -> list[tuple[str, torch.Tensor]]:
    """Names and tensors of a bucket, as views."""
    dtype: torch.dtype = getattr(torch, info.dtype)
    slots = [Slot(**values) for values in info.slots]
    return [(slot.name, slot.view(memory, dtype)) for slot in slots]


def _copy_what_waits(model: torch.nn.Module, memory: torch.Tensor) -> None:
    """vLLM loads a layer once all of its tensors have come (query, key and value are one layer);
    those that wait for a later bucket must not lie in this one's memory."""
    storage = memory.untyped_storage().data_ptr()
    for layer in model.modules():
        for _, call in get_layerwise_info(layer).loaded_weights:
            for name, value in call.arguments.items():
                if (
                    isinstance(value, torch.Tensor)
                    and not value.is_meta
                    and value.untyped_storage().data_ptr() == storage
                ):
                    call.arguments[name] = value.clone()


def _expect_nothing_for(layer: torch.nn.Module) -> None:
    """A tied head and a layer of buffers (rotary frequencies) get no tensor and keep what they
    have; vLLM would warn of each at each update."""
    info = get_layerwise_info(layer)
    if info.can_load() and info.load_numel == 0:
        info.load_numel_total = 0


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, BucketTransferEngine)
