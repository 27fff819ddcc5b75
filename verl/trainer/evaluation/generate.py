"""Rolls every prompt of an evaluation out, and writes each trajectory down as it ends.

Guarantees: every prompt gets its ``n_samples`` trajectories, none twice, or the evaluation ends
in :class:`EvaluationStoppedError`; what ended before an interruption is kept and not asked again,
unless the evaluation has changed since; a trajectory that something else than the policy broke is
not kept.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from verl.config.ppo import PPOConfig
from verl.errors import UserError
from verl.interfaces import RolloutOptions, RolloutRequest, RolloutSource
from verl.trainer.evaluation.records import RecordLog, read_keys, record_of
from verl.trajectory import AgentRecord, Trajectory
from verl.utils.checkpoints import actor_to_score
from verl.utils.console import progress_bar
from verl.utils.dataset import PromptDataset
from verl.utils.redaction import redact

logger = logging.getLogger(__name__)

TRAJECTORIES = "trajectories.jsonl"
_SETTINGS = "settings.json"
# After so many trajectories the task is asked whether to go on.
_PORTION = 64
_PASSES = 2
# These do not shape a trajectory; of the trainer only the seed does, where tokens are sampled.
_IRRELEVANT = ("trainer", "ray", "critic", "algorithm", "api_key")


class EvaluationStoppedError(UserError):
    """An evaluation that could not answer every prompt."""


def evaluated_model(config: PPOConfig) -> Path:
    """What an evaluation scores; raises :class:`UserError` if none is named and the run has no
    checkpoint."""
    if named := config.evaluation.model_path:
        return Path(named)
    return actor_to_score(Path(config.trainer.default_local_dir), config.scored_best)


def evaluation_rows(dataset: PromptDataset, n_samples: int) -> list[RolloutRequest]:
    """The requests of an evaluation; a prompt's uid is ``{data_source}/{row}``."""
    return [
        dataset.request(row, uid=f"{dataset.rows[row]['data_source']}/{row}", sample_index=k)
        for row in range(len(dataset))
        for k in range(n_samples)
    ]


def prepare_folder(config: PPOConfig, model_path: Path, record_class: type[AgentRecord]) -> Path:
    """The evaluation's folder; trajectories of a different evaluation in it are moved aside, and so
    are those whose agent told something else of them than ``record_class`` holds."""
    folder = Path(config.evaluation.folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(_settings(config, model_path, record_class), indent=2, sort_keys=True)
    path, log = folder / _SETTINGS, folder / TRAJECTORIES
    unchanged = path.is_file() and path.read_text(encoding="utf-8") == settings
    if log.is_file() and not (unchanged and config.evaluation.resume):
        aside = log.replace(folder / f"replaced_{TRAJECTORIES}")
        logger.info(
            "the evaluation in %s is another one, or of another version: starting anew; its "
            "trajectories are now in %s",
            folder,
            aside,
        )
    path.write_text(settings, encoding="utf-8")
    return folder


def _settings(
    config: PPOConfig, model_path: Path, record_class: type[AgentRecord]
) -> dict[str, Any]:
    content = {name: v for name, v in asdict(config).items() if name not in _IRRELEVANT}
    policy = config.actor_rollout_ref
    content["actor_rollout_ref"] = {"rollout": asdict(policy.rollout)}
    if policy.rollout.val.temperature > 0:
        content["seed"] = config.trainer.seed
    content["model"] = {"path": str(model_path), "weights": _weights(model_path)}
    content["record"] = [field.name for field in fields(record_class)]
    # A trajectory is the same whether more or fewer are wanted.
    unshaping = ("folder", "resume", "limit", "n_samples", "model_path", "checkpoint")
    content["evaluation"] |= dict.fromkeys(unshaping)
    settings: dict[str, Any] = redact(content)
    return settings


def _weights(model_path: Path) -> str:
    """Changes when a file of weights does; a hub name has none."""
    stats = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(model_path.glob("*.safetensors"))
    ]
    return hashlib.blake2b(repr(stats).encode(), digest_size=8).hexdigest()


def generate(
    requests: list[RolloutRequest],
    source: RolloutSource,
    options: RolloutOptions,
    folder: Path,
    stop_reason: Callable[[], str | None] = lambda: None,
    describe_failures: Callable[[], str] = lambda: "",
) -> int:
    """Rolls out what the folder's log lacks; how many trajectories that was.

    A trajectory that something else than the policy broke is asked once more, and not kept if it
    breaks again.

    Args:
        stop_reason, describe_failures: see :class:`verl.task.Surroundings`.

    Raises:
        EvaluationStoppedError: if ``stop_reason`` gives one, or trajectories are still missing.
    """
    path = folder / TRAJECTORIES
    first = missing = missing_requests(requests, path)
    if len(first) < len(requests):
        there = len(requests) - len(first)
        logger.info("%d of %d trajectories are there already", there, len(requests))
    reason = None
    for number in range(_PASSES):
        if not missing or reason is not None:
            break
        if number > 0:
            logger.info("asking %d trajectories that failed once more", len(missing))
        reason = _roll_out(missing, source, options, path, stop_reason)
        missing = missing_requests(requests, path)
    if missing:
        if reason is None:
            words = describe_failures()
            because = f" ({words})" if words else ""
            reason = f"{len(missing)} trajectories failed for no fault of the policy's{because}"
        kept = len(requests) - len(missing)
        raise EvaluationStoppedError(
            f"{reason}; {kept} of {len(requests)} trajectories are kept in {folder}: the same "
            "command asks for the rest, and python -m verl.trainer.main_eval scores these alone"
        )
    return len(first)


def missing_requests(requests: list[RolloutRequest], path: Path) -> list[RolloutRequest]:
    """Those that the log at ``path`` has no trajectory of."""
    done = read_keys(path)
    return [request for request in requests if (request.uid, request.sample_index) not in done]


def _roll_out(
    requests: list[RolloutRequest],
    source: RolloutSource,
    options: RolloutOptions,
    path: Path,
    stop_reason: Callable[[], str | None],
) -> str | None:
    """Rolls out and keeps what is sound; why it was stopped, None if it came to its end."""
    by_uid = {request.uid: request for request in requests}
    ended = itertools.count(1)
    with closing(RecordLog(path)) as log, progress_bar() as progress:
        bar = progress.add_task("answering", total=len(requests))

        def keep(trajectory: Trajectory) -> None:
            if not trajectory.excluded:
                log.append(record_of(trajectory, by_uid[trajectory.uid]))
            progress.advance(bar)
            if next(ended) % _PORTION == 0 and (reason := stop_reason()):
                raise EvaluationStoppedError(reason)

        try:
            source.rollout(requests, options, keep)
        except EvaluationStoppedError as stop:
            return str(stop)
    return stop_reason()
