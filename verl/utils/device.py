"""What the machine has."""

from __future__ import annotations

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
