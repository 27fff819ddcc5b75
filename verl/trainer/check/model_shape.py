"""How large a model is, from its config alone.

Guarantees: parameters are counted on the model's real architecture, built without memory for them,
so that every family that can be trained is counted right.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from verl.config.model import ALL_LINEAR, LoraConfig
from verl.errors import UserError
from verl.utils.hub import hub_answers

# The recipes' models, by the values of their ``config.json``, where no hub answers.
_KNOWN_MODELS: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-3B-Instruct": {
        "model_type": "qwen2",
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "meta-llama/Llama-3.2-3B-Instruct": {
        "model_type": "llama",
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
}


class ModelConfigError(UserError):
    """The model's config cannot be had."""


@dataclass(frozen=True)
class ModelShape:
    """Numbers of parameters and dimensions.

    Attributes:
        parameters: all of them, tied ones once.
        layer: of the largest decoder layer.
        outside_layers: embeddings, last norm and head.
        largest: of the largest single tensor.
        head: of an output layer that is not tied; 0 where it is.
        hidden, intermediate, layers, vocabulary: dimensions.
        key_value: width of all keys of a layer (key-value heads x their dimension).
        linear: name in its layer, and inputs + outputs, of every linear layer of all decoder
            layers.
    """

    parameters: int
    layer: int
    outside_layers: int
    largest: int
    head: int
    hidden: int
    intermediate: int
    layers: int
    vocabulary: int
    key_value: int
    linear: tuple[tuple[str, int], ...] = ()

    @property
    def backbone(self) -> int:
        """Parameters without an output layer of their own, as a critic has them."""
        return self.parameters - self.head

    def adapters(self, lora: LoraConfig) -> int:
        """Parameters of the adapters; 0 without any."""
        everywhere = lora.target_modules == [ALL_LINEAR]
        targets = tuple(f".{target}" for target in lora.target_modules)
        return lora.rank * sum(
            width for name, width in self.linear if everywhere or f".{name}".endswith(targets)
        )


def load_model_shape(path: str) -> ModelShape:
    """The shape of a checkpoint folder, a known model, or a model of the hub or its cache.

    Raises:
        ModelConfigError: if its config cannot be had.
    """
    config = _load_config(path)
    try:
        return measure(config)
    except (ValueError, AttributeError) as error:
        raise ModelConfigError(f"the architecture of {path} cannot be counted: {error}") from error


def measure(config: Any) -> ModelShape:
    """The shape of a Hugging Face config's causal language model."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    sizes = [parameter.numel() for parameter in model.parameters()]
    decoder = getattr(model, model.base_model_prefix).layers
    layers = [sum(p.numel() for p in layer.parameters()) for layer in decoder]
    head = model.get_output_embeddings().weight
    tied = head is model.get_input_embeddings().weight
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelShape(
        parameters=sum(sizes),
        layer=max(layers),
        outside_layers=sum(sizes) - sum(layers),
        largest=max(sizes),
        head=0 if tied else head.numel(),
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        layers=len(layers),
        vocabulary=text.vocab_size,
        key_value=text.num_key_value_heads * head_dim,
        linear=tuple(
            (name, module.in_features + module.out_features)
            for layer in decoder
            for name, module in layer.named_modules()
            if type(module) is torch.nn.Linear
        ),
    )


def _load_config(path: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError):
        if Path(path).is_dir():
            raise ModelConfigError(f"{path} holds no readable config.json") from None
    if path in _KNOWN_MODELS:
        return AutoConfig.for_model(**_KNOWN_MODELS[path])
    if not hub_answers():
        raise ModelConfigError(f"{path} is no folder and not in the hub's cache; no hub answers")
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelConfigError(f"the hub does not give {path}: {reason}") from error
