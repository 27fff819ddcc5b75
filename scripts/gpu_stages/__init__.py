"""The stages of scripts/gpu_check.py, in order, and what each measures.

A stage is a module with ``run(device, record, **arguments)``: ``device`` a torch.device (on "cpu"
it takes small sizes), ``record(name, value)`` writes one figure down at once. Seconds are medians
of repeated runs after a warm-up, bytes are bytes, gaps are relative unless they are log-probs.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """``module`` of this package, what it measures, and the arguments of its ``run``."""

    module: str
    about: str
    arguments: dict[str, str] = field(default_factory=dict)


STAGES = {
    "machine": Stage("machine", "card, versions, and how fast it copies and multiplies"),
    "attention": Stage("attention", "packed varlen attention against padded sdpa"),
    "head": Stage("head", "log-probs in chunks against the whole logits"),
    "update_half_b": Stage("update", "scoring and update, Qwen2.5-0.5B", {"shape": "half_b"}),
    "update_three_b": Stage("update", "scoring and update, Qwen2.5-3B", {"shape": "three_b"}),
    "padding_half_b": Stage("padding", "packed against padded, Qwen2.5-0.5B", {"shape": "half_b"}),
    "padding_three_b": Stage("padding", "packed against padded, Qwen2.5-3B", {"shape": "three_b"}),
    "publish": Stage("publish", "weights in buckets, read by a second process"),
    "engine": Stage("engine", "vLLM: start, weights, parity, sleep and wake"),
    "ppo_step": Stage("ppo_step", "PPO steps of a tiny policy through every part"),
}
