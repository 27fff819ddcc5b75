"""Tiny random models of each supported family, with the world's tokenizer and chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

# Grouped heads of 32 dimensions, the smallest that vLLM's CPU attention takes.
_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    # Far above the 0.02 of real models, so that tokens tell apart after two layers.
    "initializer_range": 0.1,
    "bos_token_id": None,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}
_FAMILIES: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    # Qwen2 has no head_dim: it is hidden_size / heads.
    "qwen2": (Qwen2Config, {"hidden_size": 128, "tie_word_embeddings": True}),
    "qwen2.5": (Qwen2Config, {"hidden_size": 128, "tie_word_embeddings": False}),
    "qwen3": (Qwen3Config, {"tie_word_embeddings": True}),
    "llama3.2": (LlamaConfig, {"tie_word_embeddings": True, "rope_parameters": _LLAMA3_ROPE}),
    "gemma3": (
        Gemma3TextConfig,
        {
            "tie_word_embeddings": True,
            "query_pre_attn_scalar": 32,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
}
FAMILIES = tuple(_FAMILIES)


def create_family(
    family: str, tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int = 0, **changes: Any
) -> Path:
    """Writes a model of ``family`` (one of :data:`FAMILIES`) and the tokenizer; its folder.

    Args:
        changes: to the Hugging Face config.
    """
    config_class, own = _FAMILIES[family]
    config = config_class(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **(_SHAPE | own | changes),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
