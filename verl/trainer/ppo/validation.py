"""Scores every row of the validation files, once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from verl.columns import Column
from verl.config.sampling import Sampling
from verl.interfaces import RewardFunction, RolloutOptions, RolloutRequest, RolloutSource
from verl.protocol import DataProto
from verl.task import ValidationResult
from verl.trajectory import Trajectory, collate
from verl.utils.dataset import PromptDataset
from verl.utils.rows import ground_truth

ALL_SOURCES = "all"

logger = logging.getLogger(__name__)


def label(batch: DataProto, rows: list[dict[str, object]]) -> DataProto:
    """Adds ``data_source`` and ``ground_truth`` of the rows the trajectories came from."""
    columns = {
        "data_source": [str(row["data_source"]) for row in rows],
        "ground_truth": [ground_truth(row) for row in rows],
    }
    return batch.union(DataProto.from_dict(non_tensors=columns))


def validation_requests(dataset: PromptDataset) -> list[RolloutRequest]:
    """Every row once; its uid is the same at every step."""
    return [dataset.request(i, uid=f"val-{i}") for i in range(len(dataset))]


def validate(
    dataset: PromptDataset,
    source: RolloutSource,
    reward_function: RewardFunction,
    sampling: Sampling,
    pad_token_id: int,
    batch_size: int | None,
    step: int,
    seed: int,
    on_finished: Callable[[Trajectory], None] | None = None,
) -> tuple[ValidationResult, list[Trajectory]]:
    """Rolls every row out once; no row is dropped, no training state moves.

    Args:
        batch_size: rows in flight together; None takes all.
        seed: of the run. Sampled validations of a run draw the same noise and differ by the
            policy alone, as a row's uid stays.
    """
    options = RolloutOptions.of(sampling, seed)
    trajectories: list[Trajectory] = []
    requests = validation_requests(dataset)
    size = batch_size or len(requests)
    for start in range(0, len(requests), size):
        trajectories += source.rollout(requests[start : start + size], options, on_finished)
    batch = label(collate(trajectories, pad_token_id), dataset.rows)
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
