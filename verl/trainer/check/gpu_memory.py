"""GPU memory of a run, phase by phase, per GPU.

Of a model with N parameters on W ranks (FSDP2 with float32 masters, b bytes an element in the
forward pass, 2 for bfloat16):

- resting on the GPU unless offloaded: masters 4N/W; of a trained model also Adam's moments 8N/W
  and, during its update, gradients 4N/W. FSDP2 offloads the three together. Of a model with
  adapters, moments and gradients are the adapters' alone, here and below;
- a pass gathers two layers (the next is fetched ahead) and the parameters outside the layers, b
  bytes each; the backward pass adds their gradients in b bytes and two layers' float32 buffers of
  the reduction;
- activations: see :mod:`verl.trainer.check.activations`;
- publishing: the engine's weights (b' N / tensor parallel size, b' bytes of the engine's dtype),
  two buckets that hold the largest parameter at least, and that parameter while it is gathered,
  twice b' bytes;
- the engine awake takes ``gpu_memory_utilization`` of the GPU. It sleeps in the other phases unless
  ``free_cache_engine`` is off.

Each phase carries the CUDA contexts of trainer and engine, NCCL's buffers and what a sleeping
engine keeps (graphs, workspaces): 3 GiB, of which 1.9 to 2.5 were seen on one H100 with an eager
engine. On top comes a tenth for fragmentation in the phases where activations are allocated.

Against the peaks that torch counted there (benchmarks/results; one rank, shapes of 0.5B and 3B, 4k
and 16k tokens), without contexts and fragmentation: an update took 0.60 to 0.87 of what is computed
here, scoring 16k tokens 1.01 to 1.18 (0.6 GB more).
"""

from __future__ import annotations

from dataclasses import replace

from verl.config.ppo import PPOConfig
from verl.trainer.check.activations import ForwardPass
from verl.trainer.check.models import ADAM, GRADIENT, MASTER, RoleModel
from verl.trainer.check.phases import Part, Phase
from verl.utils.checklist import GIB

CONTEXTS = 3.0 * GIB
_ENGINE_WORKSPACE = 2.0 * GIB
_FRAGMENTATION = 0.1
_REDUCTION = 4  # bytes of a gradient while ranks add theirs
_UTILIZATION_KEY = "actor_rollout_ref.rollout.gpu_memory_utilization"
_TP_KEY = "actor_rollout_ref.rollout.tensor_model_parallel_size"
_FREE_KEY = "actor_rollout_ref.rollout.free_cache_engine=true"


def gpu_phases(config: PPOConfig, models: list[RoleModel], gpu_bytes: float) -> list[Phase]:
    """The phases of a training step on one GPU of ``gpu_bytes``."""
    ranks = config.trainer.ranks
    resting = [Part("contexts", CONTEXTS), *(_resting(model, ranks) for model in models)]
    rollout = config.actor_rollout_ref.rollout
    engine = Part("engine", rollout.gpu_memory_utilization * gpu_bytes, _UTILIZATION_KEY, True)
    beside = [] if rollout.free_cache_engine else [replace(engine, key=_FREE_KEY)]
    updates = [
        Phase(f"update ({model.name})", (*resting, *beside, *_update(model, ranks)))
        for model in models
        if model.trained
    ]
    scoring = [Phase("scoring", (*resting, *beside, *_scoring(model))) for model in models]
    publishing = [] if not rollout.free_cache_engine else _engine_weights(config, models[0])
    return [
        *updates,
        max(scoring, key=lambda phase: phase.size),
        Phase("publish", (*resting, *beside, *publishing, *_buckets(config, models[0]))),
        Phase("engine awake", (*resting, engine)),
    ]


def engine_phase(config: PPOConfig, policy: RoleModel) -> Phase:
    """What must fit into the engine's own share: weights, work space, one longest context."""
    rollout = config.actor_rollout_ref.rollout
    context = rollout.max_model_len or config.data.max_prompt_length
    return Phase(
        "engine's share",
        (
            *_engine_weights(config, policy),
            Part("work space", _ENGINE_WORKSPACE),
            Part(
                "one context's KV cache",
                context * kv_cache_bytes(config, policy),
                "data.max_prompt_length",
            ),
        ),
    )


def kv_cache_bytes(config: PPOConfig, policy: RoleModel) -> float:
    """Of one token, on one GPU: keys and values of every layer."""
    rollout = config.actor_rollout_ref.rollout
    shape, element = policy.shape, _engine_element(config)
    return 2 * shape.layers * shape.key_value * element / rollout.tensor_model_parallel_size


def bucket_bytes(config: PPOConfig, policy: RoleModel) -> float:
    """Of one bucket of the weight transfer, which holds the largest parameter at least."""
    rollout = config.actor_rollout_ref.rollout
    setting = rollout.update_weights_bucket_megabytes * 1024.0**2
    return max(setting, float(_engine_element(config) * policy.shape.largest))


def _resting(model: RoleModel, ranks: int) -> Part:
    if model.offloaded:
        return Part(model.name, 0.0)
    size = (MASTER * model.masters + ADAM * model.trainable) / ranks
    return Part(f"{model.name}'s shards", size, model.offload_key, True)


def _update(model: RoleModel, ranks: int) -> list[Part]:
    shape, element = model.shape, model.element
    gathered = element * (2 * shape.layer + shape.outside_layers)
    layer = model.trainable_in_layer
    gradients = element * (layer + model.trainable_outside_layers) + 2 * _REDUCTION * layer
    # Of an offloaded model only one layer's shard of the gradient is on the GPU.
    gradients += GRADIENT * (layer if model.offloaded else model.trainable) // ranks
    forward = ForwardPass(shape, model.work.update_tokens, element, model.head_chunk)
    return [
        *_with_fragmentation(
            gathered,
            forward.for_update(model.checkpointing, head_trained=not model.adapters),
            model.work.key,
        ),
        Part("gradients", gradients, model.offload_key),
    ]


def _scoring(model: RoleModel) -> list[Part]:
    shape = model.shape
    gathered = model.element * (2 * shape.layer + shape.outside_layers)
    forward = ForwardPass(shape, model.work.scoring_tokens, model.element, model.head_chunk)
    return _with_fragmentation(gathered, forward.for_scoring(), model.work.key)


def _with_fragmentation(gathered: float, activations: float, key: str) -> list[Part]:
    return [
        Part("gathered parameters", gathered),
        Part("activations", activations, key),
        Part("fragmentation", _FRAGMENTATION * (gathered + activations)),
    ]


def _engine_weights(config: PPOConfig, policy: RoleModel) -> list[Part]:
    rollout = config.actor_rollout_ref.rollout
    size = _engine_element(config) * policy.parameters / rollout.tensor_model_parallel_size
    return [Part("engine's weights", size, _TP_KEY, True)]


def _buckets(config: PPOConfig, policy: RoleModel) -> list[Part]:
    return [
        Part(
            "two buckets",
            2 * bucket_bytes(config, policy),
            "actor_rollout_ref.rollout.update_weights_bucket_megabytes",
            exact=True,
        ),
        Part("largest parameter", 2.0 * _engine_element(config) * policy.shape.largest),
    ]


def _engine_element(config: PPOConfig) -> int:
    return 2 if config.actor_rollout_ref.rollout.dtype == "bfloat16" else 4
