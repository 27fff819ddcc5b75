"""Models of published shapes with random weights, and batches for them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from verl.protocol import DataProto
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus, collate

_SHAPES = {
    # Qwen2.5-0.5B and -3B, as their config.json say.
    "half_b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "three_b": {
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 2000,
    },
}


def write_random_model(shape: str, folder: Path, device: torch.device) -> Path:
    """A folder with random bfloat16 weights of one of the shapes."""
    config = Qwen2Config(**_SHAPES[shape], tie_word_embeddings=True, max_position_embeddings=32_768)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def vocabulary_of(shape: str) -> int:
    """Tokens that the shape knows."""
    return _SHAPES[shape]["vocab_size"]


def random_batch(vocabulary: int, trajectories: int, tokens_each: int) -> DataProto:
    """Prompt, action, observation, action: half of the response sampled, with columns for PPO."""
    generator = torch.Generator().manual_seed(0)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocabulary, (length,), generator=generator).tolist())

    quarter = tokens_each // 4
    made = []
    for i in range(trajectories):
        segments = [
            Segment(SegmentKind.PROMPT, ids(quarter)),
            Segment(SegmentKind.ACTION, ids(quarter), (-12.0,) * quarter),
            Segment(SegmentKind.OBSERVATION, ids(quarter)),
            Segment(SegmentKind.ACTION, ids(quarter), (-12.0,) * quarter),
        ]
        made.append(Trajectory(str(i), segments, TrajectoryStatus.ANSWERED))
    batch = collate(made, pad_token_id=0)
    assert batch.batch is not None
    mask = batch.batch["response_mask"]
    batch.batch["old_log_probs"] = batch.batch["rollout_log_probs"]
    batch.batch["ref_log_prob"] = batch.batch["rollout_log_probs"]
    batch.batch["advantages"] = torch.randn(mask.shape, generator=generator)
    return batch
