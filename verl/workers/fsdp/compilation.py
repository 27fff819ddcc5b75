"""Decoder layers by torch.compile.

Guarantees: one graph serves all layers of a kind and packed micro-batches of any size, so that
compiling ends with the first step; names of parameters and FSDP's hooks are untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def compile_layers(layers: Iterable[torch.nn.Module], checkpointing: bool) -> None:
    """Compiles the forward and backward pass of each layer, in place; before they are sharded.

    Args:
        checkpointing: recompute a layer's activations in its backward pass. This takes
            place within the compiled region: around it, as transformers does it, the second
            forward pass may run another graph than the first, which torch refuses.
    """
    for layer in layers:
        forward: Callable[..., Any] = layer.forward
        if checkpointing:
            forward = partial(checkpoint, forward, use_reentrant=False)
        layer.forward = torch.compile(forward, dynamic=True)
