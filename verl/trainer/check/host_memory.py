"""Main memory of the node that needs most: the one with the driver.

With CUDA, of a model with N parameters on W ranks, g of them on the node:

- an offloaded model rests here: g x 4N/W of masters and, trained, 8N/W of Adam's moments; its
  gradients, 4N/W, exist during its own update only. Masters and gradients are pinned, and pinned
  allocations are rounded up, which took x 1.46 on the 3B shape;
- a trained model's state is copied to be saved, g x 12N/W, and the copy is kept;
- of a model with adapters, moments, gradients and that copy are the adapters' alone;
- rank 0 reads and writes checkpoints: one whole float32 copy, 4N.

On the CPU everything lies here: each rank's shards, the gathered parameters, activations
(:mod:`verl.trainer.check.activations`) and their fragmentation, and the engine's weights and KV
cache.

Processes have a size of their own before any tensor. Those of a CPU run are proportional set sizes
(``Pss`` of ``/proc/PID/smaps_rollup``), measured in the quickstart with torch 2.13, vLLM 0.32 and
ray 2.60; at its trajectories' true length the sum is 4% below the measured peak. CUDA's libraries
add to each process that uses a GPU; what they add is not measured.
"""

from __future__ import annotations

from verl.config.ppo import PPOConfig
from verl.trainer.check.models import ADAM, GRADIENT, MASTER, RoleModel, element_bytes
from verl.trainer.check.phases import Part, Phase
from verl.utils.checklist import GIB

MIB = 1024.0**2
DRIVER = 650 * MIB
RAY_DAEMONS = 500 * MIB
RANK_PROCESS = 420 * MIB
ENGINE_PROCESSES = 2020 * MIB  # the actor, vLLM's core and its worker
CUDA_LIBRARIES = 2.5 * GIB
PINNED = 1.46
_FRAGMENTATION = 0.1
_NODES_KEY = "trainer.nnodes"
_CACHE_KEY = "actor_rollout_ref.rollout.cpu_kv_cache_gib"


def host_phase(config: PPOConfig, models: list[RoleModel], device: str) -> Phase:
    """What is in main memory at the peak of a training step on ``device`` ("cpu" or "cuda")."""
    return _beside_gpus(config, models) if device == "cuda" else _on_cpu(config, models)


def _beside_gpus(config: PPOConfig, models: list[RoleModel]) -> Phase:
    on_node, share = config.trainer.n_gpus_per_node, 1 / config.trainer.nnodes
    offloaded = [model for model in models if model.offloaded]
    trainable = max((model.trainable for model in offloaded), default=0)
    gradients = PINNED * GRADIENT * trainable * share
    engines = max(1, on_node // config.actor_rollout_ref.rollout.tensor_model_parallel_size)
    processes = _processes(on_node, engines) + (on_node + engines) * CUDA_LIBRARIES
    return Phase(
        "training",
        (
            *(
                Part(f"offloaded {model.name}", share * _resting(model), model.offload_key)
                for model in offloaded
            ),
            Part("copies of training states", _copies(models, share), _NODES_KEY),
            Part("offloaded gradients", gradients, _NODES_KEY),
            Part("whole model on rank 0", float(MASTER * max(m.parameters for m in models))),
            Part("processes", processes),
        ),
    )


def _processes(ranks: int, engines: int) -> float:
    return ranks * RANK_PROCESS + engines * ENGINE_PROCESSES + DRIVER + RAY_DAEMONS


def _copies(models: list[RoleModel], share: float) -> float:
    return sum((MASTER + ADAM) * model.trainable * share for model in models)


def _resting(model: RoleModel) -> float:
    return PINNED * MASTER * model.masters + ADAM * model.trainable


def _on_cpu(config: PPOConfig, models: list[RoleModel]) -> Phase:
    trainer, rollout = config.trainer, config.actor_rollout_ref.rollout
    ranks, on_node = trainer.ranks, trainer.n_gpus_per_node
    shards = sum(
        (MASTER * model.masters + (ADAM + GRADIENT) * model.trainable) / ranks for model in models
    )
    # On the CPU gathered parameters stay until the backward pass is over.
    gathered = max(2 * model.element * model.parameters for model in models)
    activations = max(model.update_activations for model in models if model.trained)
    activations *= on_node * (1 + _FRAGMENTATION)
    engines = max(1, rollout.num_replicas)
    weights = float(engines * element_bytes(rollout.dtype) * models[0].parameters)
    cache = engines * rollout.cpu_kv_cache_gib * GIB
    return Phase(
        "training",
        (
            Part("models", on_node * (shards + gathered), "trainer.n_gpus_per_node"),
            Part("copies of training states", _copies(models, on_node / ranks)),
            Part("activations", activations, models[0].work.key),
            Part("engine's weights", weights),
            Part("engine's KV cache", cache, _CACHE_KEY, exact=True),
            Part("processes", _processes(on_node, engines)),
        ),
    )
