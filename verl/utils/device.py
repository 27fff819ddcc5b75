"""What the machine has."""

from __future__ import annotations

import gc
import importlib.util

import torch


def resolve_device(name: str) -> str:
    """ "auto" becomes "cuda" where there is a GPU, else "cpu".

    Raises:
        RuntimeError: if "cuda" is asked for and there is no GPU.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("trainer.device=cuda, but torch sees no GPU; use trainer.device=cpu")
    return name


def free_unused_memory(device: torch.device) -> None:
    """Gives memory that torch keeps for later allocations back to the driver (CUDA).

    Tensors that are part of a reference cycle count as used until they are collected.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def resolve_attention(name: str, device: str) -> str:
    """ "auto" becomes flash-attention on CUDA where it is installed, else sdpa."""
    if name != "auto":
        return name
    has_flash = importlib.util.find_spec("flash_attn") is not None
    return "flash_attention_2" if device == "cuda" and has_flash else "sdpa"
