"""Scores every row of the validation files, once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from verl.columns import Column
from verl.config.ppo import PPOConfig
from verl.interfaces import RewardFunction, RolloutOptions, RolloutRequest, RolloutSource
from verl.task import ValidationResult
from verl.trainer.ppo.scored_rollout import labelled_batch
from verl.trajectory import Trajectory
from verl.utils.dataset import PromptDataset

ALL_SOURCES = "all"

logger = logging.getLogger(__name__)


def validation_requests(dataset: PromptDataset) -> list[RolloutRequest]:
    """Every row once; its uid is the same at every step."""
    return [dataset.request(i, uid=f"val-{i}") for i in range(len(dataset))]


def validate(
    config: PPOConfig,
    requests: Sequence[RolloutRequest],
    source: RolloutSource,
    reward_function: RewardFunction,
    pad_token_id: int,
    step: int,
    on_finished: Callable[[Trajectory], None] | None = None,
) -> tuple[ValidationResult, list[Trajectory]]:
    """Rolls every row out once; no row is dropped, no training state moves. Sampled validations of
    a run draw the same noise and differ by the policy alone, as seed and uids stay."""
    options = RolloutOptions.of(config.actor_rollout_ref.rollout.val, config.trainer.seed)
    trajectories: list[Trajectory] = []
    size = config.data.val_batch_size or len(requests)
    for start in range(0, len(requests), size):
        trajectories += source.rollout(requests[start : start + size], options, on_finished)
    batch = labelled_batch(requests, trajectories, pad_token_id)
    reward = reward_function(batch, validate=True)
    columns = {**reward.metrics, "reward": reward.scores}
    return ValidationResult(step, batch.non_tensor_batch["data_source"], columns), trajectories


def count_excluded(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """``val/excluded``: trajectories broken by no fault of the policy's; scores count them."""
    excluded = sum(trajectory.excluded for trajectory in trajectories)
    if excluded:
        logger.warning(
            "in %d of the %d trajectories of this validation something else than the policy "
            "failed; its scores count them as they are",
            excluded,
            len(trajectories),
        )
    return {"val/excluded": float(excluded)}


def validation_metrics(result: ValidationResult, columns: Sequence[Column]) -> dict[str, float]:
    """``val/test_score/{column}/{data_source}`` of the columns reported in validations, and over
    all of the sources."""
    metrics = {}
    for column in columns:
        name = column.validation
        if name is None or column.key not in result.columns:
            continue
        values = result.columns[column.key]
        for source in np.unique(result.data_sources.astype(str)):
            chosen = values[result.data_sources == source]
            metrics[f"val/test_score/{name}/{source}"] = float(chosen.mean())
        metrics[f"val/test_score/{name}/{ALL_SOURCES}"] = float(values.mean())
    return metrics
