"""The models of a run: which roles there are, how large, and where each rests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from verl.config.ppo import PPOConfig
from verl.trainer.check.model_shape import ModelShape, load_model_shape, measure
from verl.trainer.check.workload import Workload
from verl.trainer.roles import Roles

MASTER = 4  # bytes of a parameter: float32
GRADIENT = 4
ADAM = 8  # two moments


@dataclass(frozen=True)
class RoleModel:
    """One role's model.

    Attributes:
        name: "actor", "critic" or "reference".
        parameters: of this role, without an output layer that it lacks.
        element: bytes of an element in its forward pass.
        head_chunk: tokens whose logits exist at a time; 0 without logits.
        checkpointing: activations are computed again in the backward pass.
        offloaded: masters, gradients and optimizer rest in main memory (CUDA).
        trained: has gradients and an optimizer.
        work: its passes.
        offload_key: moves it between GPU and main memory.
        adapters: parameters that stand beside those; where there are any, only they are trained.
    """

    name: str
    shape: ModelShape
    parameters: int
    element: int
    head_chunk: int
    checkpointing: bool
    offloaded: bool
    trained: bool
    work: Workload
    offload_key: str
    adapters: int = 0

    @property
    def masters(self) -> int:
        """Parameters that are kept in float32."""
        return self.parameters + self.adapters

    @property
    def trainable(self) -> int:
        """Parameters with gradients and Adam's moments."""
        if not self.trained:
            return 0
        return self.adapters or self.parameters

    @property
    def trainable_in_layer(self) -> int:
        """Of one decoder layer."""
        return self.adapters // self.shape.layers if self.adapters else self.shape.layer

    @property
    def trainable_outside_layers(self) -> int:
        """Of the embeddings, the last norm and the head."""
        return 0 if self.adapters else self.shape.outside_layers


def load_models(config: PPOConfig, first_policy: Any | None = None) -> list[RoleModel]:
    """The models of a run, the actor first.

    Args:
        config: of the run.
        first_policy: Hugging Face config of a policy that the run itself makes at its start.

    Raises:
        ModelConfigError: if a model's config cannot be had.
    """
    policy, roles = config.actor_rollout_ref, Roles.of(config)

    def shape_of(path: str) -> ModelShape:
        made_here = first_policy is not None and path == policy.model.path
        return measure(first_policy) if made_here else load_model_shape(path)

    shape = shape_of(policy.model.path)
    element = _element(policy.model.dtype)
    work = Workload.of(config, policy.actor, "actor_rollout_ref.actor.")

    def of_policy(name: str, key: str, offloaded: bool, trained: bool) -> RoleModel:
        return RoleModel(
            name,
            shape,
            shape.parameters,
            element,
            policy.model.logits_chunk_tokens,
            policy.model.enable_gradient_checkpointing,
            offloaded,
            trained,
            work,
            f"actor_rollout_ref.{key}.fsdp_config.*_offload",
            shape.adapters(policy.model.lora) if trained else 0,
        )

    offload = policy.actor.fsdp_config
    models = [of_policy("actor", "actor", offload.param_offload or offload.optimizer_offload, True)]
    if roles.critic:
        critic = config.critic
        critic_shape = shape_of(critic.model.path)
        offload = critic.fsdp_config
        models.append(
            RoleModel(
                "critic",
                critic_shape,
                critic_shape.backbone,
                _element(critic.model.dtype),
                0,
                critic.model.enable_gradient_checkpointing,
                offload.param_offload or offload.optimizer_offload,
                True,
                Workload.of(config, critic, "critic."),
                "critic.fsdp_config.*_offload",
                critic_shape.adapters(critic.model.lora),
            )
        )
    if roles.reference_worker:
        offload = policy.ref.fsdp_config
        models.append(of_policy("reference", "ref", offload.param_offload, False))
    return models


def _element(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else 4
