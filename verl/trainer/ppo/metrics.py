"""Numbers of a training step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from verl.algorithms.maths import group_rows, masked_mean
from verl.interfaces import RewardOutput
from verl.protocol import DataProto
from verl.trajectory import AgentRecord


def summary(name: str, values: torch.Tensor | np.ndarray) -> dict[str, float]:
    """Mean, max and min under ``name/…``; nothing for no values."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return {}
    return {
        f"{name}/mean": float(array.mean()),
        f"{name}/max": float(array.max()),
        f"{name}/min": float(array.min()),
    }


def reward_metrics(reward: RewardOutput) -> dict[str, float]:
    """Score, task metric, cost and what else the reward function reports."""
    metrics = summary("critic/score", reward.scores)
    for name, values in reward.metrics.items():
        if name in ("metric", "cost"):
            metrics |= summary(f"critic/{name}", values)
        else:
            metrics[f"reward/{name}"] = float(values.mean())
    return metrics


def group_metrics(scores: np.ndarray, uids: np.ndarray) -> dict[str, float]:
    """``rollout/groups_without_variance``: share of the prompts whose samples all score the same,
    of ``scores`` (B,) float64 and the prompt of each, (B,)."""
    groups = group_rows(uids.tolist())
    flat = sum(len(set(scores[rows].tolist())) == 1 for rows in groups)
    return {"rollout/groups_without_variance": flat / len(groups)}


def batch_metrics(batch: DataProto, has_critic: bool) -> dict[str, float]:
    """Advantages, returns, values, lengths and token counts of a finished batch; what the trainer's
    own pass over it before the update says, if there was one."""
    tensors = batch.tensors
    mask = tensors["response_mask"].bool()
    metrics = summary("critic/rewards", tensors["token_level_rewards"].sum(dim=-1))
    metrics |= summary("critic/advantages", tensors["advantages"][mask])
    metrics |= summary("critic/returns", tensors["returns"][mask])
    if has_critic:
        values, returns = tensors["values"][mask], tensors["returns"][mask]
        metrics |= summary("critic/values", values)
        spread = returns.var()
        explained = 1 - (returns - values).var() / spread if spread > 0 else torch.tensor(0.0)
        metrics["critic/vf_explained_var"] = float(explained)
    width = tensors["responses"].shape[1]
    attention = tensors["attention_mask"]
    prompt_lengths = attention[:, :-width].sum(dim=1)
    response_lengths = tensors["response_attention_mask"].sum(dim=1)
    total = int(response_lengths.sum())
    sampled = int(mask.sum())
    metrics |= summary("prompt_length", prompt_lengths)
    metrics |= summary("response_length", response_lengths)
    metrics |= summary("global_seqlen", prompt_lengths + response_lengths)
    metrics["state_tokens/total"] = float(sampled)
    metrics["state_tokens/coverage"] = sampled / max(1, total)
    if "entropys" in tensors:
        gap = (tensors["old_log_probs"] - tensors["rollout_log_probs"]).abs()
        metrics["rollout/log_prob_gap"] = float(masked_mean(gap, mask))
        metrics["actor/entropy"] = float(masked_mean(tensors["entropys"], mask))
    return metrics


def environment_metrics(
    records: Sequence[AgentRecord], agent_metrics: Mapping[str, str]
) -> dict[str, float]:
    """What the agent did, from the numbers that it tells of every trajectory; absent ones are
    skipped.

    Besides the task's ``agent_metrics`` (see :class:`verl.task.Task`): ``env/number_of_actions``
    from ``num_turns``, and ``env/ratio_of_valid_action`` from that and ``valid_actions``.
    """
    numbers = [record.numbers() for record in records]

    def column(key: str) -> np.ndarray:
        return np.array([row[key] for row in numbers if key in row], dtype=np.float64)

    turns, valid = column("num_turns"), column("valid_actions")
    metrics = summary("env/number_of_actions", turns)
    for name, key in agent_metrics.items():
        values = column(key)
        if values.size:
            metrics[name] = float(values.mean())
    if turns.size and valid.size:
        metrics["env/ratio_of_valid_action"] = float(valid.sum() / turns.sum())
    return metrics


def timing_metrics(seconds: dict[str, float], tokens: float) -> dict[str, float]:
    """``timing_s/*``, and per token of the batch in milliseconds."""
    metrics = {}
    for name, value in seconds.items():
        metrics[f"timing_s/{name}"] = value
        metrics[f"timing_per_token_ms/{name}"] = 1000 * value / max(1.0, tokens)
    return metrics


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds that the block takes to those of ``name``."""
    start = time.monotonic()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.monotonic() - start
