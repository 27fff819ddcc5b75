"""Config of one model: where it lies, how it is sharded, how it is optimised."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from verl.algorithms.policy_losses import policy_loss_names
from verl.config.paths import MODEL
from verl.config.validation import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHARE_ABOVE_0,
    ConfigError,
    Section,
    one_of,
    require_choice,
)

ALL_LINEAR = "all-linear"
ATTENTIONS = ("auto", "varlen", "sdpa", "eager", "flash_attention_2")
# See verl.algorithms.kl.kl_penalty.
KL_ESTIMATORS = ("kl", "abs", "mse", "low_var_kl")
# See verl.algorithms.aggregation.
AGGREGATIONS = (
    "token-mean",
    "seq-mean-token-sum",
    "seq-mean-token-mean",
    "seq-mean-token-sum-norm",
)


@dataclass
class LoraConfig(Section, prefix="model.lora."):
    """Low-rank adapters, trained in place of the weights beside which they stand (Hu et al. 2021);
    those are frozen, and the policy without its adapters is the reference.

    Attributes:
        rank: of the adapters; 0 has none and trains every weight.
        alpha: an adapter's product is multiplied by ``alpha / rank``.
        target_modules: the linear layers of the decoder layers that get one: [all-linear] is every
            one, else a list of names as in [q_proj, v_proj].
    """

    rank: int = field(default=0, metadata=NOT_NEGATIVE)
    alpha: int = field(default=32, metadata=POSITIVE)
    target_modules: list[str] = field(default_factory=lambda: [ALL_LINEAR])

    def __post_init__(self) -> None:
        super().__post_init__()
        several = len(self.target_modules) > 1
        if not self.target_modules or (several and ALL_LINEAR in self.target_modules):
            raise ConfigError(
                f"model.lora.target_modules must be [{ALL_LINEAR}] or a list of layers' names, "
                f"got {list(self.target_modules)}"
            )


@dataclass
class ModelConfig(Section, prefix="model."):
    """A Hugging Face causal language model.

    Attributes:
        path: folder or hub name.
        dtype: of the forward pass, "float32" or "bfloat16"; master weights are float32.
        enable_gradient_checkpointing: recompute activations in the backward pass.
        use_remove_padding: pack sequences into one row instead of padding them.
        attn_implementation: "auto" takes "varlen", torch's attention for packed sequences, when
            ``use_remove_padding`` is on, else sdpa.
        logits_chunk_tokens: tokens whose logits exist at a time, in the forward and the backward
            pass; more is hardly faster, fewer saves memory where the vocabulary is large.
        torch_compile: compile the decoder layers, once per process, in its first passes.
    """

    path: str = field(default=MISSING, metadata=MODEL)
    dtype: str = field(default="bfloat16", metadata=one_of("float32", "bfloat16"))
    enable_gradient_checkpointing: bool = True
    use_remove_padding: bool = True
    attn_implementation: str = field(default="auto", metadata=one_of(*ATTENTIONS))
    logits_chunk_tokens: int = field(default=2048, metadata=POSITIVE)
    torch_compile: bool = False
    lora: LoraConfig = field(default_factory=LoraConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attn_implementation == "varlen" and not self.use_remove_padding:
            raise ConfigError(
                "model.attn_implementation=varlen is for packed sequences; set "
                "model.use_remove_padding=true or choose sdpa"
            )


@dataclass
class FSDPConfig:
    """Where shards live between uses (CUDA only; on CPU they are there already)."""

    param_offload: bool = False
    optimizer_offload: bool = False


@dataclass
class OptimConfig(Section, prefix="optim."):
    """AdamW and its schedule over optimizer steps.

    Attributes:
        lr: the peak.
        lr_warmup_steps: linear warm-up, in optimizer steps.
        warmup_style: shape after warm-up: "constant", "linear" or "cosine" down to
            ``min_lr_ratio * lr`` at the last step.
        grad_clip: global gradient norm limit.
    """

    lr: float = field(default=1e-6, metadata=POSITIVE)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    lr_warmup_steps: int = 0
    warmup_style: str = field(default="constant", metadata=one_of("constant", "linear", "cosine"))
    min_lr_ratio: float = field(default=0.0, metadata=SHARE)
    grad_clip: float = field(default=1.0, metadata=POSITIVE)


@dataclass
class UpdateConfig(Section):
    """What the updates of policy and value model have in common.

    Attributes:
        ppo_mini_batch_size: trajectories per optimizer step, over all ranks.
        ppo_micro_batch_size: trajectories per forward pass and rank when
            ``use_dynamic_bsz`` is off.
        use_dynamic_bsz: fill micro-batches by tokens instead.
        ppo_max_token_len_per_gpu: tokens per forward pass and rank when it is on.
    """

    ppo_mini_batch_size: int = field(default=32, metadata=POSITIVE)
    ppo_micro_batch_size: int = field(default=8, metadata=POSITIVE)
    use_dynamic_bsz: bool = True
    ppo_max_token_len_per_gpu: int = field(default=16384, metadata=POSITIVE)
    ppo_epochs: int = field(default=1, metadata=POSITIVE)
    shuffle: bool = True
    fsdp_config: FSDPConfig = field(default_factory=FSDPConfig)


@dataclass
class ActorConfig(UpdateConfig, prefix="actor."):
    """The policy's update.

    Attributes:
        policy_loss: a file of :mod:`verl.algorithms.policy_losses`: clip, gspo or cispo.
        clip_ratio: PPO's epsilon.
        clip_ratio_low, clip_ratio_high: bounds of the ratio, 1 - low and 1 + high, where they
            differ; None takes ``clip_ratio``. gspo wants about 3e-4 and 4e-4. A ratio is never
            below 0, so low is at most 1.
        clip_ratio_c: dual clip of "clip": where the advantage is negative a token's loss is at most
            so many times its size; > 1, None for none.
        loss_agg_mode: how token losses add up, see :mod:`verl.algorithms.aggregation`.
        loss_agg_horizon: tokens that "seq-mean-token-sum-norm" divides a trajectory's sum by; None
            takes ``data.max_prompt_length``.
        use_kl_loss: adds ``kl_loss_coef * KL(policy || reference)`` to the loss; None leaves it to
            the algorithm, and means no where the KL is in the reward.
        state_masking: observations stay out of every loss; only True is possible here, the key is
            the original's.
    """

    policy_loss: str = "clip"
    clip_ratio: float = field(default=0.2, metadata=POSITIVE)
    clip_ratio_low: float | None = field(default=None, metadata=SHARE_ABOVE_0)
    clip_ratio_high: float | None = field(default=None, metadata=POSITIVE)
    clip_ratio_c: float | None = None
    loss_agg_mode: str = field(default="token-mean", metadata=one_of(*AGGREGATIONS))
    loss_agg_horizon: int | None = field(default=None, metadata=POSITIVE)
    entropy_coeff: float = 0.001
    use_kl_loss: bool | None = None
    kl_loss_coef: float = 0.001
    kl_loss_type: str = field(default="low_var_kl", metadata=one_of(*KL_ESTIMATORS))
    state_masking: bool = True
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("actor.policy_loss", self.policy_loss, policy_loss_names())
        if not self.state_masking:
            raise ConfigError(
                "actor.state_masking=false is not possible: observations are never trained on"
            )
        if self.clip_ratio_c is not None and self.clip_ratio_c <= 1:
            raise ConfigError(f"actor.clip_ratio_c must be > 1 or null, got {self.clip_ratio_c}")
        if self.clip_ratio_c is not None and self.policy_loss != "clip":
            raise ConfigError(
                f"actor.clip_ratio_c={self.clip_ratio_c} is the dual clip of "
                f"actor.policy_loss=clip; with {self.policy_loss} set it to null"
            )
        if self.loss_agg_horizon is not None and not self.needs_horizon:
            raise ConfigError(
                f"actor.loss_agg_horizon={self.loss_agg_horizon} is for "
                f"actor.loss_agg_mode=seq-mean-token-sum-norm; with {self.loss_agg_mode} set it "
                "to null"
            )

    @property
    def clip_bounds(self) -> tuple[float, float]:
        """How far the ratio may go below and above 1."""
        low, high = self.clip_ratio_low, self.clip_ratio_high
        return (
            self.clip_ratio if low is None else low,
            self.clip_ratio if high is None else high,
        )

    @property
    def needs_horizon(self) -> bool:
        """Whether the aggregation divides by ``loss_agg_horizon``."""
        return self.loss_agg_mode == "seq-mean-token-sum-norm"

    @property
    def has_kl_loss(self) -> bool:
        """Whether a KL to the reference takes part in the loss: not with a coefficient of 0."""
        return bool(self.use_kl_loss) and self.kl_loss_coef != 0


@dataclass
class ReferenceConfig:
    """The frozen policy the KL is taken against; built only where there is a KL and the policy has
    no adapters."""

    fsdp_config: FSDPConfig = field(default_factory=FSDPConfig)


@dataclass
class CriticConfig(UpdateConfig, prefix="critic."):
    """The value model and its update; in the YAML ``model.path`` defaults to the actor's.

    Attributes:
        warmup_steps: first training steps in which the critic learns and the actor does not. Until
            it tells good states from bad ones, everything that an unlucky trajectory sampled counts
            as bad, its right parts too.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    warmup_steps: int = field(default=0, metadata=NOT_NEGATIVE)
    cliprange_value: float = field(default=0.5, metadata=POSITIVE)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-5))
