"""The models of a run: which roles there are, how large, where each rests, and how many tokens go
through each at once (upper bounds: every trajectory is as long as the configuration allows)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from verl.config.model import FSDPConfig, ModelConfig, UpdateConfig
from verl.config.ppo import PPOConfig
from verl.trainer.check.activations import ForwardPass
from verl.trainer.check.model_shape import ModelShape, load_model_shape, measure
from verl.trainer.roles import Roles

MASTER = 4  # bytes of a parameter: float32
GRADIENT = 4
ADAM = 8  # two moments


@dataclass(frozen=True)
class Workload:
    """Largest forward passes of a role: tokens a rank in the update, and without gradients; ``key``
    is what lowers both."""

    update_tokens: int
    scoring_tokens: int
    key: str

    @classmethod
    def of(cls, config: PPOConfig, role: UpdateConfig, prefix: str) -> Workload:
        """Of the actor's or critic's config, which lies under ``prefix``."""
        ranks, longest = config.trainer.ranks, config.data.max_prompt_length
        samples = config.data.train_batch_size * config.actor_rollout_ref.rollout.n_agent

        def tokens(samples_per_rank: int) -> int:
            if role.use_dynamic_bsz:
                limit = max(longest, role.ppo_max_token_len_per_gpu)
                return min(limit, samples_per_rank * longest)
            return min(role.ppo_micro_batch_size, samples_per_rank) * longest

        key = "ppo_max_token_len_per_gpu" if role.use_dynamic_bsz else "ppo_micro_batch_size"
        return cls(
            update_tokens=tokens(max(1, role.ppo_mini_batch_size // ranks)),
            scoring_tokens=tokens(-(-samples // ranks)),
            key=f"{prefix}.{key}",
        )


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
        return (self.adapters or self.parameters) if self.trained else 0

    @property
    def trainable_in_layer(self) -> int:
        """Of one decoder layer."""
        return self.adapters // self.shape.layers if self.adapters else self.shape.layer

    @property
    def trainable_outside_layers(self) -> int:
        """Of the embeddings, the last norm and the head."""
        return 0 if self.adapters else self.shape.outside_layers

    @property
    def update_activations(self) -> float:
        """Bytes, at the peak of a forward and backward pass."""
        forward = ForwardPass(self.shape, self.work.update_tokens, self.element, self.head_chunk)
        return forward.for_update(self.checkpointing, head_trained=not self.adapters)

    @property
    def scoring_activations(self) -> float:
        """Bytes, at the peak of a pass without gradients."""
        tokens = self.work.scoring_tokens
        return ForwardPass(self.shape, tokens, self.element, self.head_chunk).for_scoring()


def load_models(config: PPOConfig, first_policy: Any | None = None) -> list[RoleModel]:
    """The models of a run, the actor first; ``first_policy`` is the Hugging Face config of a policy
    that the run itself makes at its start.

    Raises:
        ModelConfigError: if a model's config cannot be had.
    """
    policy, critic, roles = config.actor_rollout_ref, config.critic, Roles.of(config)

    @functools.cache
    def shape_of(path: str) -> ModelShape:
        made_here = first_policy is not None and path == policy.model.path
        return measure(first_policy) if made_here else load_model_shape(path)

    def model_of(
        name: str, key: str, model: ModelConfig, work: Workload, fsdp: FSDPConfig
    ) -> RoleModel:
        shape = shape_of(model.path)
        has_head, trained = name != "critic", name != "reference"
        return RoleModel(
            name,
            shape,
            parameters=shape.parameters if has_head else shape.backbone,
            element=element_bytes(model.dtype),
            head_chunk=policy.model.logits_chunk_tokens if has_head else 0,
            checkpointing=model.enable_gradient_checkpointing,
            offloaded=fsdp.param_offload or (trained and fsdp.optimizer_offload),
            trained=trained,
            work=work,
            offload_key=f"{key}.fsdp_config.*_offload",
            adapters=shape.adapters(model.lora) if trained else 0,
        )

    key, ref_key = "actor_rollout_ref.actor", "actor_rollout_ref.ref"
    work = Workload.of(config, policy.actor, key)
    models = [model_of("actor", key, policy.model, work, policy.actor.fsdp_config)]
    if roles.critic:
        critic_work = Workload.of(config, critic, "critic")
        models.append(model_of("critic", "critic", critic.model, critic_work, critic.fsdp_config))
    if roles.reference_worker:
        models.append(model_of("reference", ref_key, policy.model, work, policy.ref.fsdp_config))
    return models


def element_bytes(dtype: str) -> int:
    """Of "bfloat16" or "float32"."""
    return 2 if dtype == "bfloat16" else 4
