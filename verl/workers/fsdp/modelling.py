"""The modules that FSDP shards: a Hugging Face model and the head that gives per-token results.

Guarantees: forward takes a :class:`~verl.utils.sequence_packing.ModelInput` and returns (n,)
float32 results of its targets, so that the hooks of the sharded root surround backbone and head;
parameters have the names of a Hugging Face checkpoint through ``checkpoint_name``, and adapters
those of peft's files; a model whose logits we would not compute as transformers does is refused by
name.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch.utils.checkpoint import checkpoint
from transformers import (
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from verl.config.model import ModelConfig
from verl.config.validation import ConfigError
from verl.utils.generation_config import read_generation_config, repair_generation_config
from verl.utils.sequence_packing import ModelInput
from verl.workers.fsdp.attention import choose_attention, packing_arguments
from verl.workers.fsdp.lora import add_adapters, name_without_peft
from verl.workers.fsdp.token_head import LogitTransform, TokenStatistics, token_statistics

if TYPE_CHECKING:
    import peft

Head = Literal["lm", "value"]


class TokenModel(torch.nn.Module, ABC):
    """A decoder with a head.

    Attributes:
        pretrained: the Hugging Face model inside.
        adapters: peft's config of the adapters; None where every weight is trained, or none.
        task: what peft calls this kind of model.
        trained_heads: modules that are trained beside adapters.
    """

    task: ClassVar[str]
    trained_heads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, pretrained: PreTrainedModel) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.adapters: peft.LoraConfig | None = None
        layers: Any = getattr(pretrained.base_model, "layers", None)
        if not isinstance(layers, torch.nn.ModuleList):
            raise ConfigError(
                f"{type(pretrained).__name__} has no list of decoder layers; only text models "
                "built like Qwen2, Llama or Gemma 3 can be trained"
            )
        self.decoder_layers = tuple(layers)

    def _hidden_states(self, batch: ModelInput) -> torch.Tensor:
        """(n, hidden size) at the positions that predict the targets."""
        output: Any = self.pretrained.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            **packing_arguments(batch),
        )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden[batch.rows, batch.columns]

    @abstractmethod
    def checkpoint_name(self, name: str) -> str:
        """A parameter's name in a Hugging Face checkpoint, and for the engine; an adapter's in
        peft's file, without peft's own prefix."""

    @abstractmethod
    def save_config(self, folder: Path) -> None:
        """Writes ``config.json`` and, for a policy, ``generation_config.json``."""


class PolicyModel(TokenModel):
    """A causal language model that scores targets; logits of ``logits_chunk_tokens`` exist at a
    time."""

    task = "CAUSAL_LM"

    def __init__(self, pretrained: PreTrainedModel, logits_chunk_tokens: int) -> None:
        super().__init__(pretrained)
        self._chunk_tokens = logits_chunk_tokens
        self._scale, self._softcap = _logit_scale_and_softcap(pretrained.config)
        output_layer = pretrained.get_output_embeddings()
        if type(output_layer) is not torch.nn.Linear:
            raise ConfigError(
                f"the output layer of {type(pretrained).__name__} is a "
                f"{type(output_layer).__name__}, not a Linear; this model cannot be trained"
            )

    def forward(
        self, batch: ModelInput, temperature: float = 1.0, with_entropy: bool = False
    ) -> TokenStatistics:
        """Log-probs (and entropies) of the targets in the distribution at ``temperature``."""
        output_layer: Any = self.pretrained.get_output_embeddings()
        return token_statistics(
            self._hidden_states(batch),
            output_layer,
            batch.targets,
            LogitTransform(self._scale, self._softcap, temperature),
            self._chunk_tokens,
            with_entropy,
        )

    def checkpoint_name(self, name: str) -> str:
        """See :class:`TokenModel`."""
        return name_without_peft(name.removeprefix("pretrained."))

    def save_config(self, folder: Path) -> None:
        """See :class:`TokenModel`."""
        config = copy.deepcopy(self.pretrained.config)
        config.architectures = [type(self.pretrained).__name__]
        config.dtype = torch.float32
        config.save_pretrained(folder)
        generation: Any = self.pretrained.generation_config
        if generation is not None:
            generation.save_pretrained(folder)


class ValueModel(TokenModel):
    """A backbone with a linear head that gives each target's value: of the state before it.

    The head starts at 0: a value of 0 everywhere is the neutral start. On disk the model is
    transformers' token classification with one label, where the family has that class.
    """

    task = "TOKEN_CLS"
    trained_heads = ("score",)

    def __init__(self, pretrained: PreTrainedModel) -> None:
        super().__init__(pretrained)
        self.score = torch.nn.Linear(pretrained.config.hidden_size, 1)
        torch.nn.init.zeros_(self.score.weight)
        torch.nn.init.zeros_(self.score.bias)

    def forward(self, batch: ModelInput) -> torch.Tensor:
        """Values of the targets, (n,) float32."""
        values: torch.Tensor = self.score(self._hidden_states(batch))
        # FSDP hangs its backward hook on what comes out, which must not be a view.
        return values.squeeze(-1).to(torch.float32, copy=True)

    def checkpoint_name(self, name: str) -> str:
        """See :class:`TokenModel`."""
        if not name.startswith("pretrained."):
            return name
        own = name_without_peft(name.removeprefix("pretrained."))
        return f"{self.pretrained.base_model_prefix}.{own}"

    def save_config(self, folder: Path) -> None:
        """See :class:`TokenModel`."""
        config = copy.deepcopy(self.pretrained.config)
        config.num_labels = 1
        family: Any = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING.get(type(config), None)
        config.architectures = [(family or type(self.pretrained)).__name__]
        config.dtype = torch.float32
        config.save_pretrained(folder)


def build_model(
    config: ModelConfig,
    head: Head,
    device: torch.device,
    trained: bool,
    with_weights: bool = True,
) -> PolicyModel | ValueModel:
    """A float32 model of the architecture in ``config.path``, not yet sharded.

    Args:
        device: of the computation; the attention function depends on it.
        trained: whether its parameters get gradients, or its adapters where it is to have some.
        with_weights: reads the checkpoint's; without them parameters have no meaningful values.

    Raises:
        ConfigError: for a model that cannot be trained; the message names why.
    """
    hf_config = AutoConfig.from_pretrained(config.path)
    attention = choose_attention(
        config.attn_implementation, device.type, config.use_remove_padding, hf_config
    )
    family: Any = AutoModelForCausalLM if head == "lm" else AutoModel
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": attention}
    pretrained = (
        family.from_pretrained(config.path, config=hf_config, **options)
        if with_weights
        else family.from_config(hf_config, **options)
    )
    model: PolicyModel | ValueModel
    if head == "lm":
        pretrained.generation_config = read_generation_config(config.path)
        repair_generation_config(pretrained)
        model = PolicyModel(pretrained, config.logits_chunk_tokens)
    else:
        model = ValueModel(pretrained)
    checkpointing = trained and config.enable_gradient_checkpointing
    if checkpointing and not config.torch_compile:
        pretrained.gradient_checkpointing_enable({"use_reentrant": False})
    model.train(trained)
    model.requires_grad_(trained)
    if trained and config.lora.rank:
        model.adapters = add_adapters(pretrained, model.decoder_layers, config.lora)
    if config.torch_compile:
        _compile(model.decoder_layers, checkpointing)
    return model


def _compile(layers: Iterable[torch.nn.Module], checkpointing: bool) -> None:
    """Compiles the forward and backward pass of each layer, in place and before they are sharded.

    One graph serves all layers of a kind and packed micro-batches of any size, so that compiling
    ends with the first step; names of parameters and FSDP's hooks are untouched. Activations are
    recomputed within the compiled region: around it, as transformers does it, the second forward
    pass may run another graph than the first, which torch refuses.
    """
    for layer in layers:
        forward: Callable[..., Any] = layer.forward
        if checkpointing:
            forward = partial(checkpoint, forward, use_reentrant=False)
        layer.forward = torch.compile(forward, dynamic=True)


def _logit_scale_and_softcap(config: PreTrainedConfig) -> tuple[float, float | None]:
    """What the family does to its logits, from the names that transformers' configs use; a
    ConfigError for a family that changes them in a way of its own."""
    if config.model_type in _OTHER_LOGITS:
        raise ConfigError(
            f"{config.model_type} changes its logits in a way that is not supported; it cannot "
            "be trained here"
        )
    scale = 1.0
    if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
        scale /= divisor
    for multiplier in ("logit_scale", "lm_head_multiplier"):  # Cohere, Falcon H1
        if (factor := getattr(config, multiplier, None)) is not None:
            scale *= factor
    return scale, getattr(config, "final_logit_softcapping", None)  # Gemma


# HyperCLOVA X multiplies by what Granite divides by; Recurrent Gemma and xLSTM name their softcap
# otherwise; Inkling cuts the vocabulary; the others have more than one output layer.
_OTHER_LOGITS = frozenset(
    {"hyperclovax", "recurrent_gemma", "xlstm", "inkling_text", "modernbert-decoder", "csm"}
)
