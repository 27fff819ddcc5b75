"""Scores saved trajectories and sums them up; needs no engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from verl.interfaces import RewardFunction
from verl.trainer.evaluation.records import EvaluationRecord, RecordError, read_log, write_parquet
from verl.trainer.evaluation.summary import DatasetSummary, summarise
from verl.trajectory import AgentRecord, RecordT
from verl.utils.files import write_text

RESULTS = "results.json"


def scored_file(folder: Path, record_class: type[AgentRecord]) -> Path:
    """The scored records of an evaluation; prompts, by what the agent's files call them."""
    return folder / f"{record_class.prompt_name}s.parquet"


def score_records(
    records: Sequence[EvaluationRecord[RecordT]], reward_function: RewardFunction
) -> list[EvaluationRecord[RecordT]]:
    """The records with the reward function's columns, and ``reward``."""
    from verl.protocol import DataProto  # brings torch, which nothing else here needs

    batch = DataProto.from_dict(
        non_tensors={
            "record": [record.trajectory for record in records],
            "ground_truth": [record.ground_truth for record in records],
        }
    )
    reward = reward_function(batch, validate=True)
    columns = {**reward.metrics, "reward": reward.scores}
    return [
        replace(record, scores={name: float(values[i]) for name, values in columns.items()})
        for i, record in enumerate(records)
    ]


def score_folder(
    log: Path,
    record_class: type[AgentRecord],
    folder: Path,
    reward_function: RewardFunction,
    facts: dict[str, Any],
    pass_column: str | None,
    limit: int | None = None,
    n_samples: int | None = None,
) -> list[DatasetSummary]:
    """Scores a log of trajectories; writes :func:`scored_file` and ``results.json``.

    Args:
        facts: what else ``results.json`` should say (model, sampling …).
        pass_column: see :func:`~verl.trainer.evaluation.summary.summarise`.
        limit, n_samples: the first so many prompts and samples only, where an earlier
            evaluation has left more; None takes all.

    Raises:
        RecordError: if there is nothing to score.
    """
    wanted = []
    # In the order of the prompts, not of their endings.
    for record in sorted(read_log(log, record_class), key=_place):
        row, sample = _place(record)
        if (limit is None or row < limit) and (n_samples is None or sample < n_samples):
            wanted.append(record)
    if not wanted:
        raise RecordError(f"{log} has no trajectory; python -m verl.trainer.main_generation first")
    scored = score_records(wanted, reward_function)
    summaries = summarise(scored, pass_column)
    write_parquet(scored_file(folder, record_class), scored)
    prompts = f"{record_class.prompt_name}s"
    written = [
        {prompts if name == "prompts" else name: value for name, value in asdict(summary).items()}
        for summary in summaries
    ]
    content = json.dumps({**facts, "summaries": written}, indent=2)
    write_text(folder / RESULTS, f"{content}\n")
    return summaries


def _place(record: EvaluationRecord) -> tuple[int, int]:
    return int(record.uid.rsplit("/", 1)[-1]), record.sample_index
