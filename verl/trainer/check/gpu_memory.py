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
from verl.trainer.check.models import ADAM, GRADIENT, MASTER, RoleModel, element_bytes
from verl.trainer.check.phases import Part, Phase
from verl.utils.checklist import GIB

CONTEXTS = 3.0 * GIB
_ENGINE_WORKSPACE = 2.0 * GIB
_FRAGMENTATION = 0.1
_REDUCTION = 4  # bytes of a gradient while ranks add theirs
_UTILIZATION_KEY = "actor_rollout_ref.rollout.gpu_memory_utilization"
_TP_KEY = "actor_rollout_ref.rollout.tensor_model_parallel_size"
_BUCKET_KEY = "actor_rollout_ref.rollout.update_weights_bucket_megabytes"
_FREE_KEY = "actor_rollout_ref.rollout.free_cache_engine=true"


def gpu_phases(config: PPOConfig, models: list[RoleModel], gpu_bytes: float) -> list[Phase]:
    """The phases of a training step on one GPU of ``gpu_bytes``."""
    rollout, ranks = config.actor_rollout_ref.rollout, config.trainer.ranks
    resting = [
        Part("contexts", CONTEXTS),
        *(_shards(model, ranks) for model in models if not model.offloaded),
    ]
    engine = Part("engine", rollout.gpu_memory_utilization * gpu_bytes, _UTILIZATION_KEY, True)
    training, publishing = resting, _buckets(config, models[0])
    if rollout.free_cache_engine:
        publishing = [_engine_weights(config, models[0]), *publishing]
    else:
        training = [*resting, replace(engine, key=_FREE_KEY)]
    scoring = [Phase("scoring", (*training, *_pass(m, m.scoring_activations))) for m in models]
    return [
        *(
            Phase(f"update ({model.name})", (*training, *_update(model, ranks)))
            for model in models
            if model.trained
        ),
        max(scoring, key=lambda phase: phase.size),
        Phase("publish", (*training, *publishing)),
        Phase("engine awake", (*resting, engine)),
    ]


def engine_phase(config: PPOConfig, policy: RoleModel) -> Phase:
    """What must fit into the engine's own share: weights, work space, one longest context."""
    context = config.longest_context * kv_cache_bytes(config, policy)
    return Phase(
        "engine's share",
        (
            _engine_weights(config, policy),
            Part("work space", _ENGINE_WORKSPACE),
            Part("one context's KV cache", context, "data.max_prompt_length"),
        ),
    )


def kv_cache_bytes(config: PPOConfig, policy: RoleModel) -> float:
    """Of one token, on one GPU: keys and values of every layer."""
    rollout = config.actor_rollout_ref.rollout
    shape, element = policy.shape, element_bytes(rollout.dtype)
    return 2 * shape.layers * shape.key_value * element / rollout.tensor_model_parallel_size


def _shards(model: RoleModel, ranks: int) -> Part:
    size = (MASTER * model.masters + ADAM * model.trainable) / ranks
    return Part(f"{model.name}'s shards", size, model.offload_key, True)


def _update(model: RoleModel, ranks: int) -> list[Part]:
    layer = model.trainable_in_layer
    gradients = model.element * (layer + model.trainable_outside_layers) + 2 * _REDUCTION * layer
    # Of an offloaded model only one layer's shard of the gradient is on the GPU.
    gradients += GRADIENT * (layer if model.offloaded else model.trainable) // ranks
    parts = _pass(model, model.update_activations)
    return [*parts, Part("gradients", gradients, model.offload_key)]


def _pass(model: RoleModel, activations: float) -> list[Part]:
    gathered = model.element * (2 * model.shape.layer + model.shape.outside_layers)
    return [
        Part("gathered parameters", gathered),
        Part("activations", activations, model.work.key),
        Part("fragmentation", _FRAGMENTATION * (gathered + activations)),
    ]


def _engine_weights(config: PPOConfig, policy: RoleModel) -> Part:
    rollout = config.actor_rollout_ref.rollout
    size = element_bytes(rollout.dtype) * policy.parameters / rollout.tensor_model_parallel_size
    return Part("engine's weights", size, _TP_KEY, True)


def _buckets(config: PPOConfig, policy: RoleModel) -> list[Part]:
    rollout = config.actor_rollout_ref.rollout
    largest = float(element_bytes(rollout.dtype) * policy.shape.largest)
    bucket = max(rollout.update_weights_bucket_megabytes * 1024.0**2, largest)
    return [
        Part("two buckets", 2 * bucket, _BUCKET_KEY, exact=True),
        Part("largest parameter", 2 * largest),
    ]
