"""Engines without Ray: in this process, or with vLLM's core in a child of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl.config.rollout import ENGINES, RolloutConfig
from verl.config.validation import require_choice
from verl.utils.device import require_vllm_build

if TYPE_CHECKING:  # each brings its library
    from verl.workers.rollout.hf_engine import HFEngine
    from verl.workers.rollout.vllm_engine import VLLMEngine


def start_engine(
    name: str,
    config: RolloutConfig,
    model_path: str,
    device: str,
    max_model_len: int,
    seed: int = 0,
) -> HFEngine | VLLMEngine:
    """Starts an engine of :data:`verl.config.rollout.ENGINES` with the weights in ``model_path``;
    ``max_model_len`` is the longest context in tokens. Its ``close`` is to be awaited where it
    generated.

    Raises:
        RolloutEngineError: if it does not start.
        DeviceError: if the installed vLLM is not the build for ``device``.
    """
    require_choice("engine", name, ENGINES)
    if name == "hf":
        from verl.workers.rollout.hf_engine import HFEngine

        return HFEngine(model_path, device, config.dtype, max_model_len, seed)
    require_vllm_build(device)
    from verl.workers.rollout.vllm_engine import VLLMEngine
    from verl.workers.rollout.vllm_replica import ReplicaSettings

    settings = ReplicaSettings.from_config(
        config, model_path, device, max_model_len, seed, sleep=False
    )
    return VLLMEngine(settings)
